# bash completion for malai: asks malai itself what fits.
_malai() {
    local line=${COMP_LINE:0:COMP_POINT} cur text about found code
    local -a words files
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
    # In quotes nothing parts words, and bash writes the quotes itself.
    if [[ $cur == [\'\"]* ]]; then
        cur=${cur:1} kept=
        words[${#words[@]} - 1]=$cur
    fi
    found=$("$1" completions --candidates -- "${words[@]:1}" 2>/dev/null)
    code=$?
    while IFS=$'\t' read -r text about; do
        [[ $text && $text == "$cur"* ]] && COMPREPLY+=("${text#"$kept"}")
    done <<<"$found"
    # A path follows the colon.
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *: ]] && compopt -o nospace 2>/dev/null
    # Exit code 1: file names fit.
    if [[ $code == 1 && ${#COMPREPLY[@]} == 0 ]]; then
        compopt -o default 2>/dev/null
    elif [[ $code == 1 ]]; then
        while IFS= read -r text; do files+=("$text"); done < <(compgen -f -- "$cur")
        # Told that these are file names, bash would write a backslash before a colon.
        if ((${#files[@]})); then
            COMPREPLY+=("${files[@]}")
            compopt -o filenames 2>/dev/null
        fi
    fi
}
complete -F _malai malai
