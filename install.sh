#!/bin/sh
# Installs or upgrades malai in ~/.malai/bin, for the user who runs it:
#
#     curl -fsSL https://malai.sh/install.sh | sh
#
# It fetches two files from $MALAI_INSTALL_BASE (default: https://malai.sh/latest): SHA256SUMS and the archive for this
# system. It unpacks the archive only if its SHA-256 matches that list, and replaces the old program, in one step, only
# if the new one runs here. If anything fails, nothing is changed.
#
# The limits of this: both files come from the same server and neither is signed. The checksum detects a truncated or
# damaged download; for the rest you trust the server's TLS certificate, as you do for this script. If you want more,
# build from source. Nothing outside of ~/.malai/bin is touched: no shell profile, no service, no key.
#
# Everything is in a function that the last line calls, so a partly downloaded script does nothing.

set -eu

say() { printf 'install.sh: %s\n' "$*" >&2; }
fail() {
  say "$*"
  say "nothing was installed or changed"
  exit 1
}

# The name of this system in archive names.
platform() {
  system=$(uname -s) machine=$(uname -m)
  case $machine in
    x86_64 | amd64) machine=x86_64 ;;
    aarch64 | arm64) machine=aarch64 ;;
    *) fail "there is no malai for this processor ($machine); what there is: x86_64, aarch64" ;;
  esac
  case $system in
    Linux) echo "$machine-linux" ;;
    Darwin)
      say "malai has not been tested on macOS"
      echo "$machine-macos"
      ;;
    *) fail "there is no malai for this system ($system); what there is: Linux, and untested macOS" ;;
  esac
}

# Accepts only encrypted downloads, or ones from this computer: nothing else authenticates the files.
check_base() {
  case $1 in
    # A user name could disguise the host: http://127.0.0.1:x@elsewhere
    *@*) fail "MALAI_INSTALL_BASE is $1: there may be no @ in it" ;;
    https://*) ;;
    http://127.0.0.1[:/]* | http://localhost[:/]* | http://'[::1]'[:/]*) ;;
    *) fail "MALAI_INSTALL_BASE is $1: only https:// is accepted, or http:// on this computer" ;;
  esac
}

fetch() { # <address> <file>
  if command -v curl >/dev/null 2>&1; then
    case $1 in
      https://*) curl -fsSL --proto '=https' --tlsv1.2 -o "$2" "$1" ;;
      *) curl -fsS -o "$2" "$1" ;;
    esac
  elif command -v wget >/dev/null 2>&1; then
    wget -q -O "$2" "$1"
  else
    fail "neither curl nor wget is here to fetch $1"
  fi
}

sum() { # <file>
  if command -v sha256sum >/dev/null 2>&1; then
    sha256sum <"$1"
  elif command -v shasum >/dev/null 2>&1; then
    shasum -a 256 <"$1"
  elif command -v openssl >/dev/null 2>&1; then
    openssl dgst -sha256 -r <"$1"
  else
    fail "nothing here makes SHA-256 sums (sha256sum, shasum or openssl)"
  fi | cut -c 1-64
}

# Removes what this run created but did not finish, including new folders if they are empty.
fetched='' staged='' made=''
clean() {
  [ -z "$fetched" ] || rm -rf "$fetched"
  [ -z "$staged" ] || rm -rf "$staged"
  for folder in $made; do
    case $folder in
      bin) rmdir "$home/bin" 2>/dev/null || true ;;
      home) rmdir "$home" 2>/dev/null || true ;;
    esac
  done
}

main() {
  [ "$#" -eq 0 ] || fail "takes no arguments; MALAI_INSTALL_BASE says where to fetch from"
  [ -d "${HOME:-}" ] || fail "HOME names no folder"
  base=${MALAI_INSTALL_BASE:-https://malai.sh/latest}
  base=${base%/}
  check_base "$base"
  platform=$(platform) || exit 1
  home=$HOME/.malai
  trap clean EXIT
  trap 'exit 130' HUP INT TERM

  fetched=$(mktemp -d) || fail "cannot make a temporary folder"
  archive=malai-$platform.tar.gz
  fetch "$base/SHA256SUMS" "$fetched/SHA256SUMS" || fail "cannot fetch $base/SHA256SUMS"
  expected=$(awk -v name="$archive" '$2 == name || $2 == "*" name { print $1 }' "$fetched/SHA256SUMS")
  case $expected in
    '') fail "$base/SHA256SUMS lists no $archive: there is no malai for this system there" ;;
    *[!0-9a-f]*) fail "$base/SHA256SUMS cannot be understood where it lists $archive" ;;
  esac
  fetch "$base/$archive" "$fetched/$archive" || fail "cannot fetch $base/$archive"
  found=$(sum "$fetched/$archive")
  [ "$found" = "$expected" ] || fail "$base/$archive is not what SHA256SUMS says: its SHA-256 is $found, expected $expected"

  # In the same folder as the final program, so that the last step is a rename. $home is also malai's home, so it is
  # private to its owner.
  if [ ! -d "$home" ]; then
    made=home
    mkdir -m 700 "$home" || fail "cannot make $home"
  fi
  if [ ! -d "$home/bin" ]; then
    made="bin $made"
    mkdir -m 755 "$home/bin" || fail "cannot make $home/bin"
  fi
  staged=$(mktemp -d "$home/bin/.install.XXXXXX") || fail "cannot write into $home/bin"
  # Extracts one file, under a name of our choice; the rest of the archive is ignored.
  tar -xzOf "$fetched/$archive" "malai-$platform/malai" >"$staged/malai" || fail "cannot unpack $archive into $home/bin"
  chmod 755 "$staged/malai"
  version=$("$staged/malai" --version 2>"$staged/said" | head -n 1) || version=''
  case $version in
    "malai "*) ;;
    *) fail "the malai from $base does not run on this system: $(head -n 1 "$staged/said")" ;;
  esac
  before=''
  # mv would put the program into an existing folder, or into one that a link leads to.
  [ ! -d "$home/bin/malai" ] || fail "$home/bin/malai is a folder; it can only be replaced if it is a program"
  if [ -e "$home/bin/malai" ]; then
    before=$("$home/bin/malai" --version 2>/dev/null | head -n 1) || before=''
    : "${before:=a malai that does not run}"
  fi
  mv -f "$staged/malai" "$home/bin/malai" || fail "cannot replace $home/bin/malai"
  made=''

  echo "$version is installed: $home/bin/malai${before:+ (before: $before)}"
  echo "Checked: its SHA-256 is the one in $base/SHA256SUMS; nothing there is signed."
  if [ -n "$before" ]; then
    echo "A daemon that runs goes on with the old version until: malai stop && malai daemon"
  fi
  case :$PATH: in
    *:"$home/bin":*) ;;
    *)
      echo "It is not in your PATH. In ~/.profile (bash), ~/.zprofile (zsh):"
      # shellcheck disable=SC2016 # printed literally
      echo '  export PATH="$HOME/.malai/bin:$PATH"'
      # shellcheck disable=SC2016
      echo 'or in fish:  fish_add_path "$HOME/.malai/bin"'
      ;;
  esac
  echo "To remove it: rm $home/bin/malai. Your clusters and their keys are in $home/clusters and stay."
}

main "$@"
