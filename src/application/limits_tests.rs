//! What follows from limits, and how they are read.

use super::*;

fn carried(limit: Limit, left: usize) -> (usize, usize) {
    let carried = Carried::by(&[Room { limit, left }]);
    (carried.connections, carried.waiting_requests)
}

#[test]
fn two_descriptors_a_connection() {
    assert_eq!(carried(Limit::Descriptors, 1_024), (384, 336));
    assert_eq!(carried(Limit::Descriptors, 20_000), (9_872, 8_638));
    assert_eq!(carried(Limit::Descriptors, 32_768), (16_256, 14_224));
    assert_eq!(carried(Limit::Descriptors, 60), (0, 0));
}

#[test]
fn two_threads_a_waiting_request() {
    for limit in [Limit::UserThreads, Limit::Tasks, Limit::MachineThreads, Limit::Ids] {
        assert_eq!(carried(limit, 4_915), (2_344, 2_051));
        assert_eq!(carried(limit, 16_384), (8_464, 7_406));
        assert_eq!(carried(limit, 32_768), (17_200, 15_050));
        assert_eq!(carried(limit, 500), (0, 0));
    }
    let (connections, waiting) = carried(Limit::Tasks, 4_915);
    assert!(connections + waiting + THREADS_KEPT <= 4_915);
}

#[test]
fn four_mappings_a_thread() {
    assert_eq!(carried(Limit::Mappings, 4 * 4_915), carried(Limit::Tasks, 4_915));
    assert_eq!(carried(Limit::Mappings, 65_530), (8_464, 7_406));
    assert_eq!(carried(Limit::Mappings, 262_144).1, 30_338);
}

/// The number that all the others rest on.
#[test]
fn a_thread_has_so_many_mappings() {
    const THREADS: usize = 400;
    let mappings = || fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    let before = mappings();
    let barrier = std::sync::Arc::new(std::sync::Barrier::new(THREADS + 1));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let barrier = std::sync::Arc::clone(&barrier);
            std::thread::spawn(move || {
                barrier.wait();
                barrier.wait();
            })
        })
        .collect();
    barrier.wait();
    let more = mappings().saturating_sub(before);
    barrier.wait();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    // Other tests of this process may start and end some.
    assert!(more <= THREADS * MAPPINGS_PER_THREAD + 300, "{more} mappings of {THREADS} threads");
}

#[test]
fn the_tightest_limit_decides_and_is_named() {
    let rooms = [
        Room { limit: Limit::Descriptors, left: 20_000 },
        Room { limit: Limit::Mappings, left: 65_530 },
        Room { limit: Limit::MachineThreads, left: 190_000 },
    ];
    let carried = Carried::by(&rooms);
    assert_eq!((carried.connections, carried.waiting_requests), (8_464, 7_406));
    let advice = carried.advice(WAITING_REQUESTS_DEFAULT_MAX).unwrap();
    assert!(
        advice.contains("65530") && advice.ends_with("raise sysctl vm.max_map_count"),
        "{advice}"
    );
    assert_eq!(carried.advice(7_406), None);
    let unbounded = Carried::by(&[]);
    assert_eq!((unbounded.waiting_requests_default(), unbounded.advice(20_000)), (10_000, None));
}

#[test]
fn the_default_is_capped_and_what_is_carried_is_not() {
    let large = Carried::by(&[Room { limit: Limit::Descriptors, left: 1_000_000 }]);
    assert_eq!((large.connections, large.waiting_requests), (499_872, 437_388));
    assert_eq!(large.waiting_requests_default(), 10_000);
    assert_eq!(large.advice(20_000), None, "they fit");
    let small = Carried::by(&[Room { limit: Limit::Descriptors, left: 1_024 }]);
    assert_eq!(small.waiting_requests_default(), 336);
}

#[test]
fn a_configuration_that_does_not_fit_is_warned_of_once() {
    let rooms = [
        Room { limit: Limit::Descriptors, left: 524_288 },
        Room { limit: Limit::Tasks, left: 16_384 },
    ];
    for (waiting, connections, warned_of) in [
        (None, None, &[][..]),
        (Some(7_406), Some(8_464), &[]),
        (Some(7_407), None, &["waiting_requests_max is 7407, but this machine carries 7406"]),
        // Fewer that wait leave threads for more connections.
        (Some(100), Some(15_772), &[]),
        (Some(100), Some(15_773), &["connections_max is 15773, which is more"]),
        (None, Some(10_000), &["connections_max is 10000, which is more"]),
        (Some(500), Some(499), &["waiting_requests_max is 500, but each"]),
        (None, Some(499), &[]),
        (Some(0), Some(1_000_000), &["connections_max is 1000000, which is more"]),
    ] {
        let warnings = warnings(&rooms, waiting, connections);
        assert_eq!(warnings.len(), warned_of.len(), "{warnings:?}");
        for (warning, beginning) in warnings.iter().zip(warned_of) {
            assert!(warning.starts_with(beginning), "{warning}");
        }
    }
    let tasks = warnings(&rooms, None, Some(10_000));
    assert!(tasks[0].contains("raise TasksMax= of its unit"), "{tasks:?}");
    assert!(warnings(&[], Some(100_000), Some(1_000_000)).is_empty(), "nothing is known");
}

#[test]
fn this_machine_can_be_read() {
    let limits: Vec<Limit> = rooms(20_000).into_iter().map(|room| room.limit).collect();
    for limit in [Limit::Descriptors, Limit::MachineThreads, Limit::Ids, Limit::Mappings] {
        assert!(limits.contains(&limit), "{limit:?} is not in {limits:?}");
    }
}

#[test]
fn the_kernels_files_are_understood() {
    assert_eq!(threads_of_all("1.22 1.78 1.32 3/100 26021\n"), Some(100));
    assert_eq!(threads_of_all("1.22"), None);
    assert!(is_identity("         0          0 4294967295\n"));
    assert!(!is_identity("         0       1000          1\n"));
    assert!(is_capable("CapPrm:\t0\nCapEff:\t000001fffeffffff\n"));
    assert!(is_capable("CapEff:\t0000000001000000\n"));
    assert!(!is_capable("CapEff:\t0000000000000400\n") && !is_capable(""));
}

#[test]
fn control_groups_are_looked_at_up_to_their_root() {
    assert_eq!(
        pids_groups("0::/system.slice/semaphored.service\n"),
        [
            "/sys/fs/cgroup/system.slice/semaphored.service",
            "/sys/fs/cgroup/system.slice",
            "/sys/fs/cgroup"
        ]
        .map(PathBuf::from)
    );
    assert_eq!(
        pids_groups("8:pids:/a\n4:memory:/b\n2:cpu,cpuacct:/\n0::/\n"),
        ["/sys/fs/cgroup/pids/a", "/sys/fs/cgroup/pids", "/sys/fs/cgroup"].map(PathBuf::from)
    );
    assert!(pids_groups("nonsense\n").is_empty());
}
