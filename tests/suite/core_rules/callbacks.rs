//! Claims with a callback: always present, offered, confirmed by a renew alone.

use super::check;

#[test]
fn it_is_offered_with_what_is_to_be_sent_and_confirmed_by_renew_alone() {
    check(
        "0   set A 1               | set A
         0   acquire a A callback  | queued a, callback a, offered a #1, due a
         1   acquire a A callback  |
         1   block a A callback    |
         2   renew a               | confirmed a
         3   acquire a A callback  | prolonged
         4   acquire b A callback  | queued b, callback b
         5   block b A callback    |
         5000 timeout              | expired a, offered b #2, due b
         5599 timeout              |
         5600 timeout              | callback_failed b",
    );
}

#[test]
fn an_offer_that_was_delivered_and_not_confirmed_is_abandoned() {
    check(
        "0   set A 1                            | set A
         0   acquire a A callback offer_ttl=60  | queued a, callback a, offered a #1, due a
         1   tried a 503                        | tried a 503
         2   tried a timeout                    | tried a timeout
         3   tried a 204                        | tried a 204
         59  timeout                            |
         60  timeout                            | abandoned a",
    );
}

#[test]
fn an_offer_that_nobody_took_has_failed_whatever_the_answers_were() {
    check(
        "0   set A 1                            | set A
         0   acquire a A callback offer_ttl=60  | queued a, callback a, offered a #1, due a
         0   block b A                          | queued b
         1   tried a 302                        | tried a 302
         1   tried a 410                        | tried a 410
         1   tried a connect                    | tried a connect
         60  timeout                            | callback_failed a, granted b #2",
    );
}

#[test]
fn a_delivery_prolongs_nothing_and_may_be_noted_of_a_held_claim() {
    check(
        "0   set A 1                                   | set A
         0   acquire a A callback offer_ttl=60 ttl=30  | queued a, callback a, offered a #1, due a
         59  renew a                                   | confirmed a
         60  tried a 200                               | tried a 200
         88  timeout                                   |
         89  timeout                                   | expired a
         90  acquire b A callback offer_ttl=60         | queued b, callback b, offered b #2, due b
         149 tried b 200                               | tried b 200
         150 timeout                                   | abandoned b",
    );
}

#[test]
fn a_delivery_to_an_ended_claim_is_left_out() {
    check(
        "0   set A 1               | set A
         0   acquire a A callback  | queued a, callback a, offered a #1, due a
         1   renew a               | confirmed a
         2   release a             | released a
         3   tried a 200           | ended before",
    );
}

#[test]
fn it_has_no_queue_ttl_but_a_wait_timeout() {
    check(
        "0     set A 1                              | set A
         0     acquire a A ttl=3600                 | queued a, granted a #1
         0     acquire b A callback                 | queued b, callback b
         0     acquire c A callback wait_timeout=60 | queued c, callback c
         60    timeout                              | wait_timeout c
         3000  timeout                              |
         3001  release a                            | released a, offered b #2, due b
         3002  release b                            | cancelled b",
    );
}

#[test]
fn a_call_that_is_under_way_is_in_the_record_and_its_end_takes_its_place() {
    check(
        "0   set A 1                            | set A
         0   acquire a A callback offer_ttl=60  | queued a, callback a, offered a #1, due a
         1   tried a began                      | began a
         3   tried a 204 at=1                   | tried a 204
         60  timeout                            | abandoned a
         61  acquire b A callback offer_ttl=60  | queued b, callback b, offered b #2, due b
         119 tried b began                      | began b
         121 timeout                            | callback_failed b
         122 tried b 204 at=119                 | ended before",
    );
}

#[test]
fn only_an_offer_is_called_but_how_a_call_ended_is_noted_of_a_held_claim_too() {
    check(
        "0   set A 1               | set A
         0   acquire h A           | queued h, granted h #1
         0   acquire a A callback  | queued a, callback a
         0   tried a began         | ended before
         1   release h             | released h, offered a #2, due a
         1   tried a began         | began a
         2   renew a               | confirmed a
         2   tried a began         | ended before
         3   tried a 204 at=1      | tried a 204
         4   tried a 503           | tried a 503",
    );
}

#[test]
fn a_job_that_has_taken_a_claim_over_is_the_only_one() {
    check(
        "0 set A 1                       | set A
         0 acquire a A callback          | queued a, callback a, offered a #1, due a
         1 renew a job=one               | confirmed a, job a one
         2 renew a job=two               | ! another job has claim a
         2 renew a job=one               | prolonged
         2 renew a                       | prolonged
         3 restart                       |
         3 renew a job=two               | ! another job has claim a
         4 acquire b A callback          | queued b, callback b
         5 renew b job=early             |
         5 release a job=two             | ! another job has claim a
         6 release a job=one             | released a, offered b #2, due b
         6 release a job=two             | ended before
         7 renew b                       | confirmed b
         7 release b job=one             | ! another job has claim b
         8 renew b job=one               | job b one, prolonged",
    );
}
