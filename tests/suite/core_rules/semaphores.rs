//! What an admin does to semaphores.

use super::check;

#[test]
fn a_higher_capacity_grants_at_once() {
    check(
        "0 set A 2        | set A
         0 block a A=2    | queued a, granted a #1
         0 block b A      | queued b
         0 block c A=2    | queued c
         1 set A 2        |
         1 set A 3        | set A, granted b #2
         2 set A 5        | set A, granted c #3",
    );
}

#[test]
fn a_lower_capacity_recalls_nothing() {
    check(
        "0 set A 3        | set A
         0 block a A      | queued a, granted a #1
         0 block b A=2    | queued b, granted b #2
         0 block c A      | queued c
         1 set A 1        | set A
         1 show A         | in_use 3 offered 0 cooling 0 set_aside 0 available 0 over 2 waiting 1
         2 release a      | released a
         3 release b      | released b, granted c #3",
    );
}

#[test]
fn a_capacity_below_what_waits_is_refused_unless_forced() {
    check(
        "0 set A 3        | set A
         0 block a A=2    | queued a, granted a #1
         0 block b A=3    | queued b
         0 block c A      | queued c
         1 set A 2        | ! 1 waiting claims would end
         1 set A 2 force  | set A, unsatisfiable b
         2 release a      | released a, granted c #2",
    );
}

#[test]
fn draining_keeps_places_and_offers() {
    check(
        "0 set A 1        | set A
         0 set B 1        | set B
         0 block a A      | queued a, granted a #1
         0 acquire b A    | queued b
         0 block ab A B   | queued ab
         0 block c B      | queued c
         1 release a      | released a, offered b #2
         2 set A 1 draining | set A, granted c #1
         3 acquire b A    | confirmed b
         4 release b      | released b
         5 block d A      | queued d
         5 position d     | [2]
         6 release c      | released c
         7 set A 1        | set A, granted ab #3/2",
    );
}

#[test]
fn a_semaphore_in_use_is_not_removed_unless_forced() {
    check(
        "0 set A 1 cooldown=60 | set A
         0 set B 1        | set B
         0 block x B      | queued x, granted x #1
         0 block ab A B   | queued ab
         0 block b B      | queued b
         0 block a A      | queued a
         1 remove A       | ! 2 live claims name A
         1 release x      | released x, granted ab #1/2
         2 remove A force | revoked ab, revoked a, cooled A ab 1, removed A, granted b #3
         3 remove A       | ! there is no semaphore A
         3 block a2 A     | ! there is no semaphore A",
    );
}

/// Else it would be back at once, with permits that no licence server has yet.
#[test]
fn a_semaphore_whose_permits_cool_is_not_removed_unless_forced() {
    check(
        "0 set A 3 cooldown=60 | set A
         0 block a A           | queued a, granted a #1
         0 block b A=2         | queued b, granted b #2
         1 release a           | released a
         2 remove A            | ! 1 live claims name A
         5 release b           | released b
         6 remove A            | ! 3 permits of A cool until 1970-01-01T00:01:05.000Z
         61 timeout            | cooled A a 1
         61 remove A           | ! 2 permits of A cool until 1970-01-01T00:01:05.000Z
         62 remove A force     | cooled A b 2, removed A
         63 set A 1 cooldown=1 | set A
         63 block c A          | queued c, granted c #3
         64 release c          | released c
         65 timeout            | cooled A c 1
         65 remove A           | removed A",
    );
}
