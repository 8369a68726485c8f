//! Rule 2: who gets what, and who does not.

use super::check;

#[test]
fn first_come_first_served() {
    check(
        "0 set A 1        | set A
         0 block a A      | queued a, granted a #1
         1 block b A      | queued b
         2 block c A      | queued c
         2 position c     | [2]
         3 release a      | released a, granted b #2
         4 release b      | released b, granted c #3
         5 release c      | released c
         6 show A         | in_use 0 offered 0 cooling 0 set_aside 0 available 1 over 0 waiting 0",
    );
}

#[test]
fn a_big_claim_is_not_starved_by_small_ones() {
    check(
        "0 set A 3        | set A
         0 block a A      | queued a, granted a #1
         0 block b A      | queued b, granted b #2
         1 block big A=3  | queued big
         1 show A         | in_use 2 offered 0 cooling 0 set_aside 1 available 0 over 0 waiting 1
         2 block small A  | queued small
         3 release a      | released a
         4 release b      | released b, granted big #3
         5 release big    | released big, granted small #4",
    );
}

#[test]
fn all_or_nothing_over_several_semaphores() {
    check(
        "0 set A 1        | set A
         0 set B 1        | set B
         0 block a A      | queued a, granted a #1
         1 block ab A B   | queued ab
         2 block b B      | queued b
         2 show B         | in_use 0 offered 0 cooling 0 set_aside 1 available 0 over 0 waiting 2
         3 release a      | released a, granted ab #2/1
         4 release ab     | released ab, granted b #2",
    );
}

#[test]
fn leaving_the_queue_lets_those_behind_pass() {
    check(
        "0 set A 1        | set A
         0 set B 2        | set B
         0 block a A      | queued a, granted a #1
         1 block ab A B=2 | queued ab
         1 block b1 B     | queued b1
         1 block b2 B     | queued b2
         2 release ab     | cancelled ab, granted b1 #1, granted b2 #2",
    );
}

#[test]
fn grants_of_several_sets_come_in_queue_order() {
    check(
        "0 set A 2        | set A
         0 set B 2        | set B
         0 block x A=2 B=2| queued x, granted x #1/1
         1 block a1 A     | queued a1
         1 block ab A B   | queued ab
         1 block b B      | queued b
         1 block a2 A     | queued a2
         2 release x      | released x, granted a1 #2, granted ab #3/2, granted b #3
         3 release a1     | released a1, granted a2 #4",
    );
}

#[test]
fn priority_goes_first() {
    check(
        "0 set A 1              | set A
         0 block a A            | queued a, granted a #1
         1 block low A          | queued low
         2 block high A priority=5 | queued high
         2 position low         | [2]
         3 release a            | released a, granted high #2",
    );
}

#[test]
fn no_queue_takes_nothing_that_is_set_aside() {
    check(
        "0 set A 2              | set A
         0 block a A            | queued a, granted a #1
         1 block big A=2        | queued big
         2 acquire n A noqueue  | ! A has only 0 permits available
         2 acquire n A noqueue priority=9 | ! A has only 0 permits available
         3 release big          | cancelled big
         3 acquire n A noqueue  | queued n, granted n #2
         4 set A 2 draining     | set A
         4 acquire m A noqueue  | ! A is draining",
    );
}

#[test]
fn an_absent_claim_is_passed_over_and_comes_back_in_its_place() {
    check(
        "0 set A 1        | set A
         0 block a A      | queued a, granted a #1
         1 block b A      | queued b
         2 block c A      | queued c
         3 block d A      | queued d
         4 closed b       |
         5 release a      | released a, granted c #2
         6 block b A      |
         6 position b     | [1]
         7 release c      | released c, granted b #3",
    );
}

#[test]
fn a_claim_that_becomes_absent_lets_others_pass_at_once() {
    check(
        "0 set A 2        | set A
         0 block a A      | queued a, granted a #1
         1 block big A=2  | queued big
         2 block c A      | queued c
         3 closed big     | granted c #2
         4 release a      | released a
         5 release c      | released c
         6 acquire big A=2| granted big #3",
    );
}

#[test]
fn one_of_two_blocked_requests_keeps_a_claim_present() {
    check(
        "0 set A 1        | set A
         0 block a A      | queued a, granted a #1
         1 block b A      | queued b
         1 block b A      |
         2 closed b       |
         3 release a      | released a, granted b #2",
    );
}

#[test]
fn who_is_not_there_gets_an_offer() {
    check(
        "0   set A 1      | set A
         0   block a A    | queued a, granted a #1
         1   acquire b A  | queued b
         2   block c A    | queued c
         3   release a    | released a, offered b #2
         3   show A       | in_use 0 offered 1 cooling 0 set_aside 0 available 0 over 0 waiting 1
         4   acquire b A  | confirmed b
         5   release b    | released b, granted c #3",
    );
}

#[test]
fn an_offer_that_nobody_confirms_goes_on() {
    check(
        "0   set A 1      | set A
         0   block a A    | queued a, granted a #1
         1   acquire b A  | queued b
         2   block c A    | queued c
         3   release a    | released a, offered b #2
         62  timeout      |
         63  timeout      | abandoned b, granted c #3
         64  acquire b A  | ! claim b has ended",
    );
}

#[test]
fn several_semaphores_do_not_deadlock() {
    check(
        "0 set A 1        | set A
         0 set B 1        | set B
         0 block x A B    | queued x, granted x #1/1
         1 block y B A    | queued y
         1 block z A B    | queued z
         2 release x      | released x, granted y #2/2
         3 release y      | released y, granted z #3/3",
    );
}
