# fish completion for malai: asks malai itself what fits.
function __malai_candidates
    set -l words (commandline -opc) (commandline -ct)
    set -l fitting ($words[1] completions --candidates -- $words[2..-1] 2>/dev/null)
    # Exit code 1: file names fit.
    set -l files $status
    if test (count $fitting) -gt 0
        printf '%s\n' $fitting
    else if test $files -eq 1
        __fish_complete_path (commandline -ct)
    end
end
complete -c malai -f -a '(__malai_candidates)'
