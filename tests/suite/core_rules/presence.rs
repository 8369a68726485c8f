//! Presence: who is passed over, and who comes back. `gone=ID` in a line says that nobody is left of those
//! who block on that claim, should the core ask.

use super::check;

#[test]
fn a_closed_claim_is_passed_over_and_comes_back_in_its_place() {
    check(
        "0   set A 1      | set A
         0   block a A ttl=3600 | queued a, granted a #1
         0   block b A    | queued b
         0   block c A    | queued c
         0   block d A    | queued d
         1   closed b     |
         2   position b   | [1]
         3   release a    | released a, granted c #2
         4   block b A    |
         5   release c    | released c, granted b #3",
    );
}

#[test]
fn nothing_is_granted_to_who_is_gone_though_nobody_saw_it_close() {
    check(
        "0   set A 1      | set A
         0   block a A ttl=3600 | queued a, granted a #1
         0   block b A    | queued b
         0   block c A    | queued c
         0   block d A    | queued d
         1   release a gone=b gone=c | released a, granted d #2
         2   position b   | [1]
         2   position c   | [2]
         3   renew c      |
         4   release d    | released d, offered c #3
         5   release c    | cancelled c
         6   block b A    | granted b #4",
    );
}

#[test]
fn who_is_gone_keeps_its_place_for_its_queue_ttl() {
    check(
        "0   set A 1      | set A
         0   block a A ttl=3600 | queued a, granted a #1
         0   block b A    | queued b
         10  release a gone=b | released a
         129 timeout      |
         130 timeout      | abandoned b",
    );
}

#[test]
fn of_many_requests_one_that_is_there_is_enough() {
    check(
        "0   set A 1      | set A
         0   block a A ttl=3600 | queued a, granted a #1
         0   block b A    | queued b
         0   block b A    |
         1   closed b     |
         2   release a    | released a, granted b #2",
    );
}

#[test]
fn a_request_that_is_being_handled_is_there() {
    check(
        "0   set A 1      | set A
         0   block a A gone=a | queued a, granted a #1
         0   block b A    | queued b
         1   release a gone=b | released a
         2   renew b gone=b | granted b #2",
    );
}

#[test]
fn who_is_not_granted_is_not_asked() {
    check(
        "0   set A 2      | set A
         0   block a A    | queued a, granted a #1
         0   block b A    | queued b, granted b #2
         0   block big A=2 | queued big
         0   block c A    | queued c
         1   release a gone=big gone=c | released a
         2   release b    | released b, granted big #3",
    );
}

/// What a claim that is gone had asked for comes to claims of any set, in the order of the queue.
#[test]
fn who_is_gone_makes_room_elsewhere() {
    check(
        "0   set A 2      | set A
         0   set B 1      | set B
         0   block a A B  | queued a, granted a #1/1
         0   block big A=2 B | queued big
         0   block c B    | queued c
         0   block d A    | queued d
         0   block e A B  | queued e
         0   block f A    | queued f
         1   release a gone=big | released a, granted c #2, granted d #2
         2   release c gone=e | released c, granted f #3",
    );
}
