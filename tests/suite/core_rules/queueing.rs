//! The queue: presence, time-outs, ids, bounds.

use semaphored::semaphore::core::Limits;

use super::{check, check_with};

#[test]
fn a_poller_keeps_its_place_by_asking() {
    check(
        "0   set A 1      | set A
         0   block a A ttl=3600 | queued a, granted a #1
         0   acquire b A  | queued b
         100 acquire b A  |
         219 timeout      |
         220 timeout      | abandoned b",
    );
}

#[test]
fn renew_keeps_a_place_too() {
    check(
        "0   set A 1      | set A
         0   block a A ttl=3600 | queued a, granted a #1
         0   acquire b A  | queued b
         100 renew b      |
         219 timeout      |
         220 timeout      | abandoned b",
    );
}

#[test]
fn a_blocked_claim_needs_no_asking_until_its_request_is_answered() {
    check(
        "0    set A 1     | set A
         0    block a A ttl=3600 | queued a, granted a #1
         0    block b A   | queued b
         1000 timeout     |
         1001 answered b  |
         1120 timeout     |
         1121 timeout     | abandoned b",
    );
}

#[test]
fn wait_timeout_ends_the_wait() {
    check(
        "0   set A 1 wait_timeout=60 | set A
         0   block a A    | queued a, granted a #1
         0   block b A    | queued b
         0   block c A wait_timeout=30 | queued c
         30  timeout      | wait_timeout c
         60  timeout      | wait_timeout b",
    );
}

#[test]
fn one_id_is_one_claim() {
    check(
        "0   set A 2      | set A
         0   block a A    | queued a, granted a #1
         1   block a A    | prolonged
         2   block a A=2  | ! claim a was made with another request
         3   release a    | released a
         4   release a    | ended before
         5   block a A    | ! claim a has ended
         5   block a A=2  | ! claim a has ended
         5   release b    | ! there is no claim b
         5   renew b      | ! there is no claim b
         90000 timeout    |
         90001 block a A  | queued a, granted a #2",
    );
}

#[test]
fn a_refused_try_leaves_no_trace() {
    check(
        "0   set A 1              | set A
         0   block a A            | queued a, granted a #1
         1   acquire b A noqueue  | ! A has only 0 permits available
         2   release a            | released a
         3   acquire b A noqueue  | queued b, granted b #2",
    );
}

#[test]
fn what_can_never_be_is_refused_at_once() {
    check(
        "0   set A 2      | set A
         0   block a A=3  | ! A has only 2 permits
         0   block a B    | ! there is no semaphore B
         0   block a A B  | ! there is no semaphore B
         0   block a A ttl=3601 | ! the lease may be at most 3600s",
    );
}

#[test]
fn an_end_and_a_grant_at_the_same_moment() {
    check(
        "0   set A 1 ttl=120  | set A
         0   block a A    | queued a, granted a #1
         0   acquire b A  | queued b
         0   block c A    | queued c
         120 timeout      | abandoned b, expired a, granted c #2",
    );
}

#[test]
fn revoke_ends_whatever_it_is() {
    check(
        "0   set A 1      | set A
         0   block a A    | queued a, granted a #1
         0   block b A    | queued b
         0   block c A    | queued c
         1   revoke b     | revoked b
         2   revoke a     | revoked a, granted c #2
         3   revoke a     | ended before",
    );
}

#[test]
fn bounds_refuse_and_everything_else_goes_on() {
    let limits = Limits {
        semaphores_max: 2,
        claims_max: 4,
        claims_text_bytes_max: 1_000,
        queue_claims_max: 2,
        waiting_sets_max: 1,
        ended_ids_max: 10,
        tokens_max: 10,
    };
    check_with(
        limits,
        "0   set A 1      | set A
         0   set B 1      | set B
         0   set C 1      | ! semaphores_max = 2 is reached
         0   block a A    | queued a, granted a #1
         0   block b A    | queued b
         0   block c B A  | ! waiting_sets_max = 1 is reached
         0   block c A    | queued c
         0   block d A    | ! the queue of A is full
         0   block e B    | queued e, granted e #1
         0   block f B    | ! claims_max = 4 is reached
         1   release b    | cancelled b
         1   block d A    | queued d",
    );
}

#[test]
fn the_texts_of_live_claims_have_a_bound() {
    // An id and a name of a semaphore: two bytes each.
    let limits = Limits { claims_text_bytes_max: 5, ..Limits::default() };
    check_with(
        limits,
        "0   set A 1      | set A
         0   block a A    | queued a, granted a #1
         0   block b A    | queued b
         0   block c A    | queued c
         0   block d A    | ! claims_text_bytes_max = 5 is reached
         0   block b A    |
         0   restart      |
         1   block d A    | ! claims_text_bytes_max = 5 is reached
         1   release a    | released a, offered b #2
         1   block d A    | queued d",
    );
}

#[test]
fn a_callback_whose_permits_are_free_needs_no_room_in_the_queue() {
    let limits = Limits { queue_claims_max: 1, waiting_sets_max: 1, ..Limits::default() };
    check_with(
        limits,
        "0   set A 1      | set A
         0   set B 2      | set B
         0   block a A    | queued a, granted a #1
         0   block b A    | queued b
         0   acquire c B callback | queued c, callback c, offered c #1, due c
         1   block d B=2  | ! waiting_sets_max = 1 is reached
         1   acquire e B callback noqueue | queued e, callback e, offered e #2, due e
         1   acquire f B callback | ! waiting_sets_max = 1 is reached",
    );
}

#[test]
fn at_most_four_requests_block_on_one_claim() {
    check(
        "0   set A 1      | set A
         0   block a A    | queued a, granted a #1
         0   block b A    | queued b
         0   block b A    |
         0   block b A    |
         0   block b A    |
         0   block b A    |
         1   answered b   |
         1   answered b   |
         1   answered b   |
         1   answered b   |
         2   release a    | released a, offered b #2",
    );
}
