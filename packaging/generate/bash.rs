//! The completion for bash: one function, with bash-completion or without.

use super::commands::{Command, TOPICS, first_words, groups, is_file, second_words, values};

const HEAD: &str = r#"# Completion of semaphorectl for bash; made by packaging/generate.

_semaphorectl() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
    local command= group= options= values= files= runs= at word_at value
    COMPREPLY=()
    # Where bash takes `=` for a word of its own, the option stands before it.
    if [[ $word == '=' ]]; then
        word=
    elif [[ $before == '=' ]]; then
        before=${COMP_WORDS[COMP_CWORD-2]}
    fi
    command=${COMP_WORDS[1]} at=2
"#;

const TAIL: &str = r#"    for ((word_at = at; word_at < COMP_CWORD; word_at++)); do
        if [[ ${COMP_WORDS[word_at]} == -- ]]; then
            if [[ $runs ]]; then
                if declare -F _command_offset >/dev/null; then
                    _command_offset $((word_at + 1))
                elif ((COMP_CWORD == word_at + 1)); then
                    COMPREPLY=($(compgen -c -- "$word"))
                else
                    COMPREPLY=($(compgen -f -- "$word"))
                fi
            fi
            return
        fi
    done
    for value in $values; do
        if [[ $before == "${value%%:*}" ]]; then
            value=${value#*:}
            case $value in
                FILE) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$word")) ;;
                *) COMPREPLY=($(compgen -W "${value//,/ }" -- "$word")) ;;
            esac
            return
        fi
    done
    if [[ $word == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$word"))
    elif [[ $files ]]; then
        compopt -o filenames 2>/dev/null
        COMPREPLY=($(compgen -f -- "$word"))
    fi
}
complete -F _semaphorectl semaphorectl
"#;

/// The script.
pub(super) fn completion(commands: &[Command]) -> String {
    let mut out = HEAD.to_owned();
    let firsts: Vec<_> = first_words(commands).into_iter().map(|(word, _)| word).collect();
    let topics: Vec<_> = TOPICS.iter().map(|(topic, _)| *topic).collect();
    out.push_str(&format!(
        "    if ((COMP_CWORD == 1)); then\n        \
             COMPREPLY=($(compgen -W \"{} help --help --version\" -- \"$word\"))\n        return\n    fi\n    \
         if [[ $command == help ]]; then\n        \
             ((COMP_CWORD == 2)) && COMPREPLY=($(compgen -W \"{} {}\" -- \"$word\"))\n        return\n    fi\n",
        firsts.join(" "),
        firsts.join(" "),
        topics.join(" ")
    ));
    for group in groups(commands) {
        let seconds: Vec<_> =
            second_words(commands, group).into_iter().map(|(word, _)| word).collect();
        out.push_str(&format!(
            "    if [[ $command == {group} ]]; then\n        if ((COMP_CWORD == 2)); then\n            \
                 COMPREPLY=($(compgen -W \"{} help --help --version\" -- \"$word\"))\n            return\n        fi\n        \
                 command=\"{group} ${{COMP_WORDS[2]}}\" at=3\n    fi\n",
            seconds.join(" ")
        ));
    }
    out.push_str("    case $command in\n");
    for command in commands {
        out.push_str(&case(command));
    }
    out.push_str("        *) return ;;\n    esac\n");
    out + TAIL
}

/// What is different from command to command. An option whose value nobody can guess has an empty list of values.
fn case(command: &Command) -> String {
    let mut options = Vec::new();
    let mut with_value = Vec::new();
    for option in &command.options {
        let short = option.short.map(|letter| format!("-{letter}"));
        let spellings = short.into_iter().chain([option.long.to_owned()]);
        for spelling in spellings {
            if let Some(name) = option.value {
                let list = if is_file(name) { "FILE".to_owned() } else { values(option).join(",") };
                with_value.push(format!("{spelling}:{list}"));
            }
            options.push(spelling);
        }
    }
    let mut lines = format!(
        "        '{}')\n            options=\"{}\"\n            values=\"{}\"\n",
        command.words.join(" "),
        options.join(" "),
        with_value.join(" ")
    );
    if command.arguments.iter().any(|name| is_file(name)) {
        lines.push_str("            files=yes\n");
    }
    if command.runs {
        lines.push_str("            runs=yes\n");
    }
    lines + "            ;;\n"
}
