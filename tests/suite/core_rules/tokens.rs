//! To whom a claim belongs: to the token that made it, and what another one may do.

use super::{check, check_with};
use semaphored::{model::WallTime, semaphore::core::Limits};

#[test]
fn a_claim_is_there_for_its_own_token_alone() {
    check(
        "0 set A 2                | set A
         0 token farm             | token farm
         0 token lab1             | token lab1
         1 acquire a A by=farm    | queued a, owned a farm, granted a #1
         1 acquire a A by=farm    | prolonged
         1 acquire a A by=lab1    | ! claim a was made with another request
         1 renew a by=lab1        | ! there is no claim a
         1 release a by=lab1      | ! there is no claim a
         1 renew a by=farm        | prolonged
         2 release a by=farm      | released a
         2 release a by=lab1      | ended before",
    );
}

#[test]
fn an_admin_ends_claims_of_others_where_his_pattern_reaches() {
    check(
        "0 set A 2                               | set A
         0 set B 2                               | set B
         0 token farm                            | token farm
         0 token boss scopes=admin               | token boss
         0 token half scopes=admin for=A         | token half
         1 acquire a A by=farm                   | queued a, owned a farm, granted a #1
         1 acquire b A B by=farm                 | queued b, owned b farm, granted b #2/1
         1 acquire a A by=boss                   | ! claim a was made with another request
         1 renew a by=boss                       | prolonged
         2 revoke b by=half                      | ! there is no claim b
         2 revoke a by=half audit                | revoked a, audit act
         2 release b by=boss                     | released b",
    );
}

#[test]
fn a_callback_claim_belongs_to_who_confirms_it() {
    check(
        "0 set A 1                      | set A
         0 set B 1                      | set B
         0 token pipe                   | token pipe
         0 token work for=A             | token work
         0 token else for=B             | token else
         0 token look scopes=admin      | token look
         1 acquire x A by=pipe          | queued x, owned x pipe, granted x #1
         1 acquire a A callback by=pipe | queued a, owned a pipe, callback a
         1 renew a by=work              | ! there is no claim a
         2 release x by=pipe            | released x, offered a #2, due a
         3 renew a by=else              | ! there is no claim a
         3 acquire a A callback by=work | ! claim a was made with another request
         3 release a by=work            | ! there is no claim a
         4 renew a by=work              | confirmed a, owned a work
         5 renew a by=work              | prolonged
         5 renew a by=pipe              | ! there is no claim a
         6 release a by=work            | released a",
    );
}

#[test]
fn an_offer_without_a_callback_is_confirmed_by_its_own_token_alone() {
    check(
        "0 set A 1                | set A
         0 token farm             | token farm
         0 token lab1             | token lab1
         1 acquire x A by=farm    | queued x, owned x farm, granted x #1
         1 acquire a A by=farm    | queued a, owned a farm
         2 release x by=farm      | released x, offered a #2
         3 renew a by=lab1        | ! there is no claim a
         3 renew a by=farm        | confirmed a",
    );
}

#[test]
fn what_was_made_without_a_token_is_there_for_those_that_reach_it() {
    check(
        "0 set A 2                | set A
         0 token farm for=A       | token farm
         0 token lab1 for=B       | token lab1
         1 acquire a A            | queued a, granted a #1
         1 renew a by=lab1        | ! there is no claim a
         1 renew a by=farm        | prolonged
         2 restart                |
         2 acquire b A by=farm    | queued b, owned b farm, granted b #2
         3 renew b                | prolonged
         3 release b              | released b",
    );
}

#[test]
fn a_token_has_so_many_claims_at_once() {
    check(
        "0 set A 1                       | set A
         0 token farm claims_max=2       | token farm
         0 token lab1 claims_max=1       | token lab1
         1 acquire a A by=farm           | queued a, owned a farm, granted a #1
         1 acquire b A callback by=farm  | queued b, owned b farm, callback b
         1 acquire c A by=farm           | ! a token has at most 2 claims
         1 acquire b A callback by=farm  |
         2 restart                       |
         2 acquire c A by=farm           | ! a token has at most 2 claims
         3 release a by=farm             | released a, offered b #2, due b
         3 acquire d A by=lab1           | queued d, owned d lab1
         4 renew b by=lab1               | ! a token has at most 1 claims
         5 release d by=lab1             | cancelled d
         5 renew b by=lab1               | confirmed b, owned b lab1
         5 acquire c A by=farm           | queued c, owned c farm
         5 acquire e A by=lab1           | ! a token has at most 1 claims",
    );
}

#[test]
fn tokens_are_kept_bounded_and_revoked() {
    let limits = Limits { tokens_max: 2, ..Limits::default() };
    check_with(
        limits,
        "0 token farm                  | token farm
         0 token farm                  |
         1 token farm scopes=admin     | token farm
         1 token lab1                  | token lab1
         1 token more                  | ! tokens_max = 2 is reached
         2 used farm more              | used farm@2
         2 used more                   |
         3 restart                     |
         3 untoken lab1 audit          | revoked lab1, audit act
         3 untoken lab1 audit          | ! there is no token lab1
         4 token more                  | token more",
    );
}

#[test]
fn where_there_are_too_many_the_longest_expired_token_is_in_the_way() {
    let mut run = super::Run::new(Limits { tokens_max: 3, ..Limits::default() });
    let in_the_way = |run: &super::Run, second: i64| {
        let token = run.core.token_in_the_way(WallTime(second * 1_000));
        token.map(|token| token.id.to_string())
    };
    for line in ["0 set A 9", "0 token next expires=2", "0 token busy expires=1"] {
        run.line(line);
    }
    assert_eq!(in_the_way(&run, 9), None, "there is room");
    run.line("0 token soon expires=3");
    run.line("0 acquire a A by=busy");
    assert_eq!(in_the_way(&run, 1), None, "it has claims");
    assert_eq!(in_the_way(&run, 4), Some("next".into()));
}

#[test]
fn what_a_token_waits_for_ends_with_its_right_to_hold() {
    check(
        "0 set A 2                                  | set A
         0 token farm                               | token farm
         1 acquire a A by=farm                      | queued a, owned a farm, granted a #1
         1 acquire b A=2 callback by=farm           | queued b, owned b farm, callback b
         2 token farm scopes=claim+read             | token farm
         2 token farm scopes=read                   | token farm, revoked b
         3 token farm scopes=read for=A             | token farm
         3 release a                                | released a",
    );
}

#[test]
fn the_audit_log_says_nothing_of_what_was_not_done() {
    check(
        "0 set A 1 audit          | set A, audit act
         0 set A 1 audit          |
         1 acquire a A            | queued a, granted a #1
         1 remove A audit         | ! 1 live claims name A
         2 remove A force audit   | revoked a, removed A, audit act",
    );
}

#[test]
fn a_command_that_was_let_in_before_its_token_was_revoked_does_nothing() {
    let mut run = super::Run::new(Limits::default());
    for line in ["0 set A 1", "0 token farm", "1 acquire a A by=farm"] {
        run.line(line);
    }
    run.by = Some(run.core.token(&super::token_id("farm")).unwrap().clone());
    let by = run.by.clone();
    run.line("2 untoken farm");
    for line in ["3 renew a", "3 release a", "3 acquire b A"] {
        let command = {
            let words: Vec<&str> = line.split_whitespace().collect();
            run.command(words[1], &words[2..])
        };
        run.by = by.clone();
        assert_eq!(run.apply(command), "! the token is not good any more", "{line}");
    }
}

#[test]
fn what_a_revoked_token_waits_for_ends_and_what_it_holds_goes_on() {
    check(
        "0 set A 2                        | set A
         0 token farm                     | token farm
         0 token lab1                     | token lab1
         1 acquire a A by=farm            | queued a, owned a farm, granted a #1
         1 acquire b A callback by=farm   | queued b, owned b farm, callback b, offered b #2, due b
         1 acquire c A=2 by=farm          | queued c, owned c farm
         1 acquire d A by=lab1            | queued d, owned d lab1
         2 untoken farm                   | revoked farm, revoked b, revoked c, offered d #3
         3 renew d by=lab1                | confirmed d
         400 timeout                      | expired a, expired d",
    );
}

#[test]
fn an_admin_for_some_semaphores_ends_no_claim_that_names_others_too() {
    check(
        "0 set A 1                        | set A
         0 set B 1                        | set B
         0 token half scopes=admin for=A  | token half
         0 token boss scopes=admin        | token boss
         1 acquire a A B                  | queued a, granted a #1/1
         2 remove A force by=half         | ! 1 claims of A name other semaphores too
         3 remove A force by=boss         | revoked a, removed A",
    );
}
