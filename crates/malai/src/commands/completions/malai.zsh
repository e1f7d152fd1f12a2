#compdef malai
# zsh completion for malai: asks malai itself what fits.
_malai() {
    local line
    local -a lines fitting
    lines=("${(@f)$(${words[1]} completions --candidates -- "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
    for line in $lines; do
        fitting+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
    done
    if (( $#fitting )); then
        _describe 'malai' fitting
    elif ! ${words[1]} completions --candidates -- "${(@Q)words[2,CURRENT]}" &>/dev/null; then
        # Exit code 1: file names fit.
        _files
    fi
}
if [[ $funcstack[1] == _malai ]]; then
    _malai "$@"
else
    compdef _malai malai
fi
