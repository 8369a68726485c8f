//! Leases, renewal, `max_hold`, cooldown, and what a restart does to them.

use super::check;

#[test]
fn a_lease_ends_without_renewal_and_lives_with_it() {
    check(
        "0   set A 1 ttl=10  | set A
         0   block a A       | queued a, granted a #1
         9   renew a         | prolonged
         18  acquire a A     | prolonged
         27  timeout         |
         28  timeout         | expired a
         29  renew a         | ! claim a has ended
         29  release a       | ended before",
    );
}

#[test]
fn a_renew_may_change_the_lease() {
    check(
        "0   set A 1 ttl=10 max_ttl=60 | set A
         0   block a A           | queued a, granted a #1
         5   renew a ttl=60      | renewed a 60, prolonged
         6   renew a ttl=60      | prolonged
         6   renew a ttl=61      | ! the lease may be at most 60s
         65  timeout             |
         66  timeout             | expired a",
    );
}

#[test]
fn max_hold_ends_a_claim_that_renews() {
    check(
        "0   set A 1 ttl=60 max_hold=100 | set A
         0   block a A       | queued a, granted a #1
         50  renew a         | prolonged
         99  renew a         | prolonged
         100 timeout         | expired a",
    );
}

#[test]
fn given_back_permits_cool() {
    check(
        "0   set A 2 cooldown=60 | set A
         0   block a A=2     | queued a, granted a #1
         1   block b A       | queued b
         2   release a       | released a
         2   show A          | in_use 0 offered 0 cooling 2 set_aside 0 available 0 over 0 waiting 1
         61  timeout         |
         62  timeout         | cooled A a 2, granted b #2
         63  show A          | in_use 1 offered 0 cooling 0 set_aside 0 available 1 over 0 waiting 0",
    );
}

#[test]
fn only_held_permits_cool() {
    check(
        "0   set A 1 cooldown=60 | set A
         0   block a A       | queued a, granted a #1
         1   acquire b A     | queued b
         2   release a       | released a
         62  timeout         | cooled A a 1, offered b #2
         63  release b       | cancelled b
         63  show A          | in_use 0 offered 0 cooling 0 set_aside 0 available 1 over 0 waiting 0",
    );
}

#[test]
fn a_shrink_drops_cooling_permits_first() {
    check(
        "0   set A 4 cooldown=60 | set A
         0   block a A=3     | queued a, granted a #1
         1   release a       | released a
         2   set A 2 cooldown=60 | cooled A a 2, set A
         2   show A          | in_use 0 offered 0 cooling 1 set_aside 0 available 1 over 0 waiting 0
         61  timeout         | cooled A a 1",
    );
}

#[test]
fn a_restart_gives_leases_offers_and_cooldowns_their_full_time() {
    check(
        "0   set A 2 ttl=100 cooldown=50 | set A
         0   block a A       | queued a, granted a #1
         0   block z A       | queued z, granted z #2
         1   release z       | released z
         40  block b A=2     | queued b
         45  restart         |
         94  timeout         |
         95  timeout         | cooled A z 1
         144 timeout         |
         145 timeout         | expired a
         195 timeout         | abandoned b, cooled A a 1",
    );
}

#[test]
fn what_was_absent_is_present_after_a_restart() {
    check(
        "0   set A 1         | set A
         0   block a A       | queued a, granted a #1
         1   block b A       | queued b
         2   closed b        |
         3   release a       | released a
         4   restart         | offered b #2",
    );
}

#[test]
fn wait_timeout_goes_on_over_a_restart_and_fences_never_fall() {
    check(
        "0   set A 1         | set A
         0   block a A       | queued a, granted a #1
         1   block b A wait_timeout=100 | queued b
         50  restart         |
         51  block b A wait_timeout=100 |
         100 timeout         |
         101 timeout         | wait_timeout b
         102 release a       | released a
         103 remove A        | removed A
         104 set A 1         | set A
         105 restart         |
         106 block c A       | queued c, granted c #2",
    );
}

#[test]
fn a_wait_that_was_over_while_the_service_was_down_gets_no_offer() {
    check(
        "0   set A 1         | set A
         0   block a A       | queued a, granted a #1
         1   block b A wait_timeout=100 | queued b
         1   block c A       | queued c
         2   closed b        |
         2   closed c        |
         3   release a       | released a
         150 restart         | wait_timeout b, offered c #2",
    );
}
