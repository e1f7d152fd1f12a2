# bash completion for malai: asks malai itself what fits.
_malai() {
    local line=${COMP_LINE:0:COMP_POINT} cur text about
    local -a words
    # Bash's own words are no use here: it takes "@admins.company" for two.
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    cur=${words[${#words[@]} - 1]}
    COMPREPLY=()
    # What stands before the last character that parts words for bash is not completed by it.
    local kept=${cur%"${cur##*[@:=]}"}
    [[ $COMP_WORDBREAKS == *"${kept: -1}"* ]] || kept=
    # Where bash completes host names by itself, the "@" is part of the word that it replaces.
    shopt -q hostcomplete && kept=${kept%@}
    while IFS=$'\t' read -r text about; do
        [[ $text == "$cur"* ]] && COMPREPLY+=("${text#"$kept"}")
    done < <("$1" completions --candidates -- "${words[@]:1}" 2>/dev/null)
    # Exit code 1: file names fit.
    if [[ ${#COMPREPLY[@]} == 0 ]] && ! "$1" completions --candidates -- "${words[@]:1}" &>/dev/null; then
        compopt -o default 2>/dev/null
    fi
}
complete -F _malai malai
