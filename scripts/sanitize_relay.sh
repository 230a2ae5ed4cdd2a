#!/bin/sh
# Builds the native parts with AddressSanitizer and UndefinedBehaviorSanitizer into a directory of its own, and runs their
# tests, fuzzing included, against that build. With "thread" as argument: ThreadSanitizer instead. Exits with the tests' code.
#
#   scripts/sanitize_relay.sh [thread] [pytest arguments]
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
cc=${CC:-gcc}
sanitizers=address,undefined library=libasan.so
if [ "${1:-}" = thread ]; then
    shift
    sanitizers=thread library=libtsan.so
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/media"
# Links rather than copies: the package is the real one but for the extension.
for file in media/*.py media/*.pyi; do ln -s "$PWD/$file" "$work/media/"; done
# A test of our own sees to it that the build under test is this one.
cat > "$work/test_build.py" <<PYTHON
import media.records, media.relay
def test_this_build(): assert all(m.__file__.startswith("$work") for m in (media.records, media.relay))
PYTHON
suffix=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
for name in relay records; do
    "$python" -m cython -3 "media/$name.pyx" -o "$work/$name.c"
    "$cc" -shared -fPIC -O1 -g -pthread -fno-omit-frame-pointer -fsanitize=$sanitizers -fno-sanitize-recover=undefined \
        -I"$include" -Imedia "$work/$name.c" -o "$work/media/$name$suffix"
done
preload=$("$cc" -print-file-name=$library)
# The interpreter is not built for leak checks; the tests count descriptors and rings themselves.
ASAN_OPTIONS=detect_leaks=0:abort_on_error=0:quarantine_size_mb=4:thread_local_quarantine_size_kb=64 UBSAN_OPTIONS=print_stacktrace=1 \
TSAN_OPTIONS="halt_on_error=1 report_signal_unsafe=0" \
PYTHONPATH="$work" PYTHONDONTWRITEBYTECODE=1 PYTHONMALLOC=malloc LD_PRELOAD="$preload" \
    "$python" -P -m pytest --capture=sys -p no:cacheprovider -o pythonpath="$work" \
    tests/media/test_relay.py tests/media/test_relay_model.py tests/media/test_rtp_fuzz.py \
    tests/media/test_timeline.py tests/media/test_keys.py tests/media/test_player.py "$work/test_build.py" "$@"
