#!/bin/sh
# Runs a command while it holds a permit, where semaphorectl cannot be installed: POSIX sh, curl and sed are enough.
#
#   with-permit.sh [-i ID] [-t TTL] [-w WAIT] [-u SECONDS] [-x] SEMAPHORE[=N][,SEMAPHORE[=N]...] [--] COMMAND [ARGUMENT...]
#   with-permit.sh -c ID [-u SECONDS] [-x] [--] COMMAND [ARGUMENT...]
#
#   -i ID       the claim's id; a new one for each run of a job (a random one)
#   -c ID       take over this claim instead of making one: in the job that a callback starts
#   -t TTL      the lease: how long the permits stay taken if this machine dies (the semaphore's, 5m)
#   -w WAIT     end the wait after this long, with exit code 75 (no limit)
#   -u SECONDS  give up with 69 after this long without a good answer of the service (300)
#   -x          stop the command when the lease is lost, with exit code 79 or 80 (only a warning)
#
# Environment: SEMAPHORE_URL; SEMAPHORE_TOKEN, or SEMAPHORE_TOKEN_FILE with the file that the token is in.
# The command gets SEMAPHORE_CLAIM_ID and SEMAPHORE_FENCES.
# Exit codes: the command's own; 64 usage, 65 refused, 69 out of reach, 70 an answer that makes no sense, 75 no permit in
# time, 77 not allowed, 78 configuration, 79 revoked, 80 lease lost, 128 + signal while it waits.
set -u

say() { printf 'with-permit: %s\n' "$*" >&2; }

# die CODE WORDS...
die() {
    code=$1
    shift
    say "$*"
    exit "$code"
}

# Whether a text is made of these characters alone, at least one and at most so many: is_made_of TEXT CHARACTERS MOST
# The shell takes newlines off the end of what `$(…)` gives, so there is a dot behind them.
is_made_of() { [ -n "$1" ] && [ "${#1}" -le "$3" ] && [ "$(printf %s "$1" | tr -d "$2" && echo .)" = . ]; }

random() { od -An -N12 -tx1 /dev/urandom | tr -d ' \n'; }

# A member of the answer: a text (its \" become '), or a whole number.
text_of() { tr -d '\n' <"$work/answer" | sed -n -e "s/\\\\\"/'/g" -e 's/.*"'"$1"'": *"\([^"]*\)".*/\1/p'; }
number_of() { tr -d '\n' <"$work/answer" | sed -n 's/.*"'"$1"'": *\([0-9][0-9]*\).*/\1/p'; }

# Waits for a process that this shell has started. It is the one to end when a signal comes: a shell runs no trap before a
# foreground command has ended, but at once when it waits.
wait_for_helper() {
    helper=$!
    wait "$helper"
    helper=
}

pause() {
    sleep "$1" >/dev/null 2>&1 &
    wait_for_helper
}

# request METHOD PATH SECONDS [BODY]: sets $status (000: no answer); the answer is in $work/answer. The token goes to curl
# through its standard input, for everybody can read the command lines of a machine.
request() {
    : >"$work/answer"
    : >"$work/headers"
    printf 'header = "Authorization: Bearer %s"\n' "$token" |
        curl --silent --show-error --config - --request "$1" --url "$url$2" --connect-timeout 10 --max-time "$3" \
            ${4:+--header 'Content-Type: application/json'} ${4:+--data "$4"} --output "$work/answer" \
            --dump-header "$work/headers" --write-out '%{http_code}' >"$work/status" 2>"$work/error" &
    wait_for_helper
    status=$(cat "$work/status")
    status=${status:-000}
}

# What the service says is wrong, or why there is no answer.
why() {
    if [ "$status" = 000 ]; then
        head -n 1 "$work/error"
    else
        detail=$(text_of detail)
        printf 'HTTP %s: %s' "$status" "${detail:-no explanation; is $url that of a semaphored?}"
    fi
}

# Whether the service itself says so: without a code it is something before it, such as a proxy, which knows nothing of claims.
is_of_service() { [ -n "$(text_of code)" ]; }

# Whether a failure goes away by itself.
may_pass() {
    case $status in
    000 | 408 | 429 | 500 | 502 | 503 | 504) return 0 ;;
    *) return 1 ;;
    esac
}

# The seconds of the header Retry-After, between a least and 30.
retry_after() {
    seconds=$(tr -d '\r' <"$work/headers" | sed -n 's/^[Rr]etry-[Aa]fter: *\([0-9][0-9]*\)$/\1/p' | tail -n 1)
    seconds=${seconds:-$1}
    [ "$seconds" -ge "$1" ] || seconds=$1
    [ "$seconds" -le 30 ] || seconds=30
    echo "$seconds"
}

# After a failure that may pass: pauses, or gives up.
try_again() {
    now=$(date +%s)
    if [ -z "$failing_since" ]; then
        failing_since=$now
        say "$(why); trying again for ${patience}s"
    elif [ $((now - failing_since)) -ge "$patience" ]; then
        release_seconds=0
        die 69 "gave up after ${patience}s without a good answer of $url: $(why)"
    fi
    pause "$(retry_after 1)"
}

# A line now and then: at first, and once a minute.
tell_waiting() {
    failing_since=
    now=$(date +%s)
    if [ $((now - told)) -ge 60 ]; then
        told=$now
        waited=$(number_of waited_seconds)
        say "waiting for $what: position $(number_of position), for ${waited:-0}s (claim $id)"
    fi
    # 0 after a request that has waited; more where the service takes no more of those just now.
    seconds=$(retry_after 0)
    [ "$seconds" = 0 ] || pause "$seconds"
}

# There will be no permit. Nor is there a claim that would be ours to give back, unless it was not the service itself that
# refused, or it has not looked: then there is one if it said so before, or if a request was not answered that may have made it.
refused() {
    claimed=$may_exist
    # Under an id that somebody chose another job may hold one: nobody gives that back who was not told that it is his.
    if [ -n "$chosen$adopted" ]; then claimed=$taken_in; fi
    case $status in
    401 | 403) die 77 "not allowed: $(why)" ;;
    esac
    is_of_service || die 70 "the answer makes no sense: $(why)"
    # It is over, or another job's, or there was never one: what was taken in is not refused with anything else.
    claimed=
    case $status in
    410)
        reason=$(text_of reason)
        case $reason in
        wait_timeout) die 75 "no permit of $what in time: claim $id has waited for as long as it may" ;;
        revoked) die 79 "an admin revoked claim $id" ;;
        *) die 65 "claim $id is over (${reason:-ended}), and its id is used up: each run of a job needs a new one" ;;
        esac
        ;;
    4??) die 65 "refused: $(why)" ;;
    esac
    die 70 "the answer makes no sense: $(why)"
}

# Asks until the permits are held. The id is the same each time, so no repetition takes a second permit.
acquire() {
    failing_since=
    told=0
    claimed=1
    may_exist=
    taken_in=
    # The first answer comes soon, so that a job that waits says so.
    longest_answer=1s
    while :; do
        sent=$(date +%s)
        if [ -n "$adopted" ]; then
            # The first name that a claim hears is its job's: a second job of the same claim is refused.
            request POST "/api/v1/claims/$id/renew?wait=$longest_answer" 75 "{\"job\": \"$job\"}"
        else
            request PUT "/api/v1/claims/$id?wait=$longest_answer" 75 "$body"
        fi
        longest_answer=50s
        case $status in
        200 | 201) return ;;
        202)
            may_exist=1
            taken_in=1
            tell_waiting
            ;;
        *)
            may_pass || refused
            [ "$status" = 429 ] || may_exist=1
            try_again
            ;;
        esac
    done
}

# Gives the permits back, or leaves the queue.
release() {
    given_up=$(($(date +%s) + release_seconds))
    while :; do
        request DELETE "/api/v1/claims/$id${adopted:+?job=$job}" 5
        again=
        case $status in
        204) return ;;
        404 | 409 | 410)
            if is_of_service; then return; fi
            again=1
            ;;
        2??) again=1 ;;
        *) if may_pass; then again=1; fi ;;
        esac
        if [ -z "$again" ] || [ "$(date +%s)" -ge "$given_up" ]; then
            say "claim $id could not be given back ($(why)); it ends by itself when its lease is over"
            return
        fi
        pause 1
    done
}

# On every way out.
# shellcheck disable=SC2317 # a trap calls it
leave() {
    code=$?
    trap - EXIT
    # In bash a signal that reaches a child of this shell before its first command may bring it here.
    [ "$(exec sh -c 'echo "$PPID"')" = "$$" ] || exit "$code"
    trap '' HUP INT TERM
    [ -z "$helper" ] || kill -KILL "$helper" 2>/dev/null
    [ -z "$renewer" ] || { kill -USR1 "$renewer" 2>/dev/null && wait "$renewer" 2>/dev/null; }
    [ -z "$claimed" ] || release
    rm -rf "$work"
    exit "$code"
}

# lost CODE WORDS...: the lease is not ours any more.
lost() {
    code=$1
    shift
    [ ! -e "$work/lost" ] || return 0
    echo "$code" >"$work/lost"
    say "$*"
    if [ -n "$stop_on_loss" ]; then
        say 'the command is stopped'
        kill -TERM "$child" 2>/dev/null
    else
        say 'the command goes on; others may have its permits'
    fi
}

# From an answer: for how many seconds the lease lives ($life), which is less than its ttl where max_hold of the semaphore ends
# it, and after how many to renew it ($renew_after).
read_lease() {
    ttl=$(number_of ttl_seconds)
    ttl=${ttl:-300}
    life=$(number_of expires_in_seconds)
    life=${life:-$ttl}
    [ "$life" -le "$ttl" ] || life=$ttl
    renew_after=$(number_of renew_after_seconds)
    renew_after=${renew_after:-1}
    [ "$renew_after" -gt 0 ] || renew_after=1
}

# Prolongs the lease for as long as the command lives, also when this script was killed before it.
renew() {
    trap '' HUP INT TERM
    trap '[ -z "$helper" ] || kill -KILL "$helper" 2>/dev/null; exit 0' USR1
    work=$work/renewing
    renewed=$(date +%s)
    # In time for its end, whatever the service says.
    next=$((life * 4 / 5))
    [ "$next" -le "$renew_after" ] || next=$renew_after
    # The answer may have been on its way for as long as its request took, and the lease runs.
    next=$((next - renewed + sent))
    [ "$next" -gt 0 ] || next=1
    ends=
    while pause "$next" && kill -0 "$child" 2>/dev/null; do
        next=1
        if [ -n "$ends" ]; then
            ends=
            lost 80 "claim $id was held for as long as max_hold of its semaphore lets it"
            continue
        fi
        asked=$(date +%s)
        request POST "/api/v1/claims/$id/renew" 10
        next=5
        now=$(date +%s)
        case $status in
        200)
            read_lease
            renewed=$asked
            next=$renew_after
            # What is left of max_hold, and no renewal prolongs that.
            if [ "$life" -lt "$ttl" ] && [ "$life" -le "$renew_after" ] && [ ! -e "$work/lost" ]; then
                ends=1
                next=$life
            fi
            ;;
        *)
            if [ "$status" = 410 ] && is_of_service; then
                if [ "$(text_of reason)" = revoked ]; then
                    lost 79 "an admin revoked claim $id"
                else
                    lost 80 "the lease of claim $id is lost ($(text_of reason))"
                fi
                claimed=
                break
            fi
            left=$((renewed + life - now))
            if [ "$left" -le 0 ]; then
                lost 80 "the lease of claim $id could not be renewed: $(why)"
            elif [ "$left" -lt "$next" ]; then
                next=$left
            fi
            ;;
        esac
    done
    # Nobody else is there to do it.
    if ! kill -0 "$$" 2>/dev/null; then
        [ -z "$claimed" ] || release
        rm -rf "${work%/renewing}"
    fi
}

# Runs the command; sets $result. A shell starts what it waits for with SIGINT ignored, so each signal becomes SIGTERM.
run() {
    signalled=
    child=
    trap 'signalled=1; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null' HUP INT TERM
    SEMAPHORE_CLAIM_ID=$id SEMAPHORE_FENCES=$fences "$@" <&3 3<&- &
    child=$!
    [ -z "$signalled" ] || kill -TERM "$child" 2>/dev/null
    renew </dev/null >/dev/null 3<&- &
    renewer=$!
    while :; do
        signalled=
        wait "$child"
        code=$?
        # 127: it had ended already when the signal came.
        [ "$code" = 127 ] && [ -n "${result:-}" ] || result=$code
        [ -n "$signalled" ] || break
    done
}

# The members of "permits", from NAME[=N][,NAME[=N]...].
permits_of() {
    members=
    rest=$1,
    while [ -n "$rest" ]; do
        permit=${rest%%,*}
        rest=${rest#*,}
        name=${permit%%=*}
        count=1
        [ "$name" = "$permit" ] || count=${permit#*=}
        is_made_of "$name" 'A-Za-z0-9_-' 64 || die 64 "\`$name\` is no semaphore's name"
        is_made_of "$count" 0-9 9 || die 64 "\`$permit\` has no number of permits"
        members="$members${members:+, }\"$name\": $count"
    done
}

usage() { die 64 "$1; usage: with-permit.sh [-i ID] [-t TTL] [-w WAIT] [-u SECONDS] [-x] SEMAPHORE -- COMMAND, or with-permit.sh -c ID -- COMMAND"; }

chosen=
adopted=
lease=
longest=
patience=300
stop_on_loss=
while getopts c:i:t:u:w:x option; do
    case $option in
    c) adopted=$OPTARG ;;
    i) chosen=$OPTARG ;;
    t) lease=$OPTARG ;;
    u) patience=$OPTARG ;;
    w) longest=$OPTARG ;;
    x) stop_on_loss=1 ;;
    *) usage 'there is no such option' ;;
    esac
done
shift $((OPTIND - 1))
is_made_of "$patience" 0-9 6 || usage "-u $patience is no number of seconds"
for duration in "$lease" "$longest"; do
    [ -z "$duration" ] || is_made_of "$duration" 0-9smh 9 || usage "\`$duration\` is no duration, such as 90s, 5m or 2h"
done
if [ -n "$adopted" ]; then
    [ -z "$chosen$lease$longest" ] || usage '-c takes a claim that there is: -i, -t and -w were said when it was made'
    what="claim $adopted"
else
    [ $# -gt 0 ] || usage 'no semaphore is named'
    permits_of "$1"
    what=$1
    shift
fi
[ "${1:-}" != -- ] || shift
[ $# -gt 0 ] || usage 'there is no command'

url=${SEMAPHORE_URL:-http://127.0.0.1:7420}
url=${url%/}
case $url in
http://* | https://*) ;;
*) die 78 "SEMAPHORE_URL is no URL: $url" ;;
esac
token=${SEMAPHORE_TOKEN:-}
if [ -z "$token" ] && [ -n "${SEMAPHORE_TOKEN_FILE:-}" ]; then
    token=$(cat "$SEMAPHORE_TOKEN_FILE") || die 78 'the file of SEMAPHORE_TOKEN_FILE cannot be read'
fi
[ -n "$token" ] || die 77 'no token: set SEMAPHORE_TOKEN, or SEMAPHORE_TOKEN_FILE to a file that has it'
is_made_of "$token" 'A-Za-z0-9_-' 200 || die 78 'what is set as the token is none: it is one line that looks like sem_ab12_…'
command -v curl >/dev/null || die 78 'curl is not installed'

id=${adopted:-${chosen:-sh-$(random)}}
is_made_of "$id" 'A-Za-z0-9._~-' 128 || die 64 "\`$id\` is no claim's id: 1 to 128 of A-Z a-z 0-9 . _ ~ -"
job=$(random)
holder=$(printf %s "${CI_JOB_URL:-${BUILD_URL:-$(uname -n):$$}}" | tr -cd 'A-Za-z0-9/:._~?&=%#@-' | cut -c 1-512)
# A plain number is one of seconds.
case $lease in *[0-9]) lease=${lease}s ;; esac
case $longest in *[0-9]) longest=${longest}s ;; esac
if [ -z "$adopted" ]; then
    body="{\"permits\": {$members}, \"holder\": \"$holder\"${lease:+, \"ttl\": \"$lease\"}${longest:+, \"wait_timeout\": \"$longest\"}}"
fi

# What the callback of a job set is the claim that -c takes.
if [ -n "${SEMAPHORE_CLAIM_ID:-}" ] && [ "$SEMAPHORE_CLAIM_ID" != "$adopted" ]; then
    say "warning: claim $SEMAPHORE_CLAIM_ID is around this one: jobs that hold what another waits for wait for ever"
fi

helper=
renewer=
claimed=
result=
release_seconds=30
exec 3<&0
work=$(mktemp -d) || die 70 'there is no place for temporary files'
mkdir "$work/renewing"
trap leave EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

acquire
read_lease
fences=$(tr -d '\n' <"$work/answer" | sed -n 's/.*"fences": *\({[^}]*}\).*/\1/p')
say "holds $what (claim $id)"
run "$@"
if [ -n "$stop_on_loss" ] && [ -e "$work/renewing/lost" ]; then
    exit "$(cat "$work/renewing/lost")"
fi
exit "$result"
