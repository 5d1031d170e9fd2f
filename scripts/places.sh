#!/bin/bash
# Runs vecsnap in the places where readers and jobs really run: few open files, little memory, a small disk, a root and a cache
# that come with an image. Linux; what needs root or cgroups is left out, and said to be, where they are not to be had.
#
#     npm run build && bash scripts/places.sh
set -u
dist="$(cd "$(dirname "$0")/.." && pwd)/dist"
cli="$dist/cli/main.js"
work=$(mktemp -d)
export XDG_CACHE_HOME="$work/cache"
failed=0
trap 'umount -l "$work"/mnt-* 2>/dev/null; rm -rf "$work"' EXIT

vecsnap() { node "$cli" "$@"; }
# expect <exit code> <what> <command…>: the last line of what it prints tells why, if it ends otherwise.
expect() {
  local code=$1 what=$2; shift 2
  local said; said=$("$@" 2>&1); local got=$?
  if [ "$got" = "$code" ]; then echo "ok    $what"; else echo "FAIL  $what: exit code $got, expected $code: $(tail -1 <<<"$said")"; failed=1; fi
}
skip() { echo "skip  $1: $2"; }

# 20,000 rows of 64 values: 16 shards of half a megabyte.
node -e '
  let s = 1; const next = () => (s = (s * 48271) % 2147483647) / 2147483647 - 0.5
  for (let i = 0; i < 20000; i++) console.log(JSON.stringify({ id: "r" + i, vector: Array.from({ length: 64 }, next) }))
' > "$work/in.jsonl"
query='['$(printf '0.5,%.0s' $(seq 63))'0.5]'
build() { vecsnap build "$work/in.jsonl" --to "$1" --strategy lsh --shards 16 --no-certificate --quiet "${@:2}"; }
search() { vecsnap query "$1" --vector "$query" --probes all "${@:2}"; }
expect 0 "a build, for what follows" build "$work/root"

few_files() { (ulimit -n 256; "$@"); }
expect 0 "ulimit -n 256: a search of all shards" few_files search "$work/root"
expect 0 "ulimit -n 256: health" few_files vecsnap health "$work/root" --fetch whole

# As Docker does with --memory 512m, and half a gigabyte of vectors: what was the default on every machine, 1 GiB of them, is
# killed there.
large="$work/large" && mkdir -p "$large"
node -e '
  const { openSync, writeSync } = require("node:fs")
  const rows = 120000, dim = 1024, file = openSync(process.argv[1], "w")
  let header = `{"descr": "<f4", "fortran_order": False, "shape": (${rows}, ${dim}), }`.replaceAll(`"`, "\u0027")
  header = header.padEnd(64 * Math.ceil((header.length + 11) / 64) - 11) + "\n"
  const start = Buffer.from("\u0093NUMPY\u0001\u0000\u0000\u0000", "latin1")
  start.writeUInt16LE(header.length, 8)
  writeSync(file, start)
  writeSync(file, header)
  let s = 1
  const block = new Float32Array(1000 * dim)
  for (let row = 0; row < rows; row += 1000) {
    for (let i = 0; i < block.length; i++) block[i] = (s = (s * 48271) % 2147483647) / 2147483647 - 0.5
    writeSync(file, Buffer.from(block.buffer))
  }
' "$large/in.npy"
cat > "$large/search.mjs" <<JS
import { openSnapshot } from "$dist/src/index.js"
const [root, cacheDir, memoryBytes] = process.argv.slice(2)
const reader = await openSnapshot(root, { cacheDir, memoryBytes: memoryBytes && Number(memoryBytes) })
const query = Float32Array.from({ length: 1024 }, (_, i) => Math.sin(i))
for (let i = 0; i < 3; i++) await reader.search(query, { probes: "all" })
console.log(Math.round(process.resourceUsage().maxRSS / 1024))
await reader.close()
JS
expect 0 "a build of 120,000 rows of 1,024 values" vecsnap build "$large/in.npy" --to "$large/root" --strategy lsh --shards 16 --no-certificate --quiet
search_large() { node "$large/search.mjs" "$large/root" "$large/cache" "$@"; }
cgroup=/sys/fs/cgroup/memory/vecsnap-places-$$
limit_file=memory.limit_in_bytes
if [ ! -d /sys/fs/cgroup/memory ]; then cgroup=/sys/fs/cgroup/vecsnap-places-$$ limit_file=memory.max; fi
if mkdir "$cgroup" 2>/dev/null && echo 536870912 2>/dev/null > "$cgroup/$limit_file"; then
  little_memory() { (echo $BASHPID > "$cgroup/cgroup.procs"; "$@"); }
  expect 0 "512 MiB of memory: a search of all shards" little_memory search_large
  echo "      it peaks at $(little_memory search_large) MiB"
  expect 137 "512 MiB of memory: with memoryBytes of 1 GiB it is killed" little_memory search_large $((2 ** 30))
  expect 0 "512 MiB of memory: a build" little_memory build "$work/root-512"
  rmdir "$cgroup" 2>/dev/null
else
  rmdir "$cgroup" 2>/dev/null
  skip "512 MiB of memory" "no memory cgroup can be made here; peaks with the memoryBytes that follow from 512 MiB, and with 1 GiB, follow"
  peak=$(search_large $((2 ** 27))) && was=$(search_large $((2 ** 30)))
  if [ "$peak" -lt 512 ] && [ "$was" -gt 512 ]; then echo "ok    $peak and $was MiB"; else echo "FAIL  $peak and $was MiB, expected less and more than 512"; failed=1; fi
fi
rm -r "$large"

tmpfs() { mkdir -p "$1" && mount -t tmpfs -o size="$2" none "$1" 2>/dev/null; }
if tmpfs "$work/mnt-cache" 4m; then
  expect 0 "a cache on a disk smaller than all shards: one shard after the other" \
    bash -c 'for s in 0 1 2 3 4 5 6 7; do node "$0" query "$1" --vector "$2" --shards $s --fetch whole --cache-dir "$3" || exit; done' \
    "$cli" "$work/root" "$query" "$work/mnt-cache"
  expect 7 "a cache on a disk that is too small for one search says so" search "$work/root" --fetch whole --cache-dir "$work/mnt-cache"
  expect 11 "health with a cache on a full disk" bash -c 'cat /dev/zero > "$2/fill" 2>/dev/null; find "$2" -mindepth 1 -maxdepth 1 ! -name fill -exec rm -r {} +; cat /dev/zero >> "$2/fill" 2>/dev/null; node "$0" health "$1" --fetch whole --cache-dir "$2"' \
    "$cli" "$work/root" "$work/mnt-cache"
  tmpfs "$work/mnt-root" 24m
  build "$work/mnt-root/root" > /dev/null; build "$work/mnt-root/root" > /dev/null; sleep 2
  cat /dev/zero > "$work/mnt-root/fill" 2>/dev/null
  expect 0 "a collection on a full root makes room" vecsnap gc "$work/mnt-root/root" --yes --keep-last 1 --grace 1s
  tmpfs "$work/mnt-temp" 64m
  expect 0 "64 MiB for temporary files: a small build" build "$work/root-temp" --temp-dir "$work/mnt-temp"
  tmpfs "$work/mnt-full" 1m
  expect 7 "1 MiB for temporary files: the build names the directory" build "$work/root-full" --temp-dir "$work/mnt-full"
else
  skip "small disks" "tmpfs cannot be mounted here"
fi
expect 7 "no directory for temporary files" build "$work/root-none" --temp-dir "$work/nowhere"

# An image with a root and a warm cache, and a container on it.
# Published to twice: the lock of a root is made when something is replaced for the first time.
build "$work/root" > /dev/null
mkdir -p "$work/image" && cp -r "$work/root" "$work/image/root"
vecsnap warm "$work/image/root" --fetch whole --cache-dir "$work/image/cache" > /dev/null
mkdir -p "$work/mnt-overlay" "$work/upper-base"
if tmpfs "$work/mnt-upper" 256m && mkdir "$work/mnt-upper/upper" "$work/mnt-upper/work" &&
  mount -t overlay -o "lowerdir=$work/image,upperdir=$work/mnt-upper/upper,workdir=$work/mnt-upper/work" none "$work/mnt-overlay" 2>/dev/null; then
  expect 0 "overlay: a search with the cache of the image" search "$work/mnt-overlay/root" --fetch whole --cache-dir "$work/mnt-overlay/cache"
  expect 0 "overlay: a root of the image is published to" build "$work/mnt-overlay/root"
  expect 0 "overlay: and once more" build "$work/mnt-overlay/root"
  expect 0 "overlay: and collected" vecsnap gc "$work/mnt-overlay/root" --yes --keep-last 1 --grace 1s
  damage() { for f in "$work"/mnt-overlay/cache/*/shard.db; do printf 'x%.0s' $(seq 4096) | dd of="$f" conv=notrunc bs=4096 status=none; done; }
  damage
  expect 0 "overlay: damaged copies in the cache of the image are replaced" search "$work/image/root" --fetch whole --cache-dir "$work/mnt-overlay/cache"
else
  skip "overlay" "overlayfs cannot be mounted here"
fi

no_home() { env -u HOME -u XDG_CACHE_HOME TMPDIR="$work" "$@"; }
expect 0 "a cache directory with XDG_CACHE_HOME empty" env XDG_CACHE_HOME= HOME="$work" node "$cli" health "$work/root" --fetch whole
if [ -e "$PWD/vecsnap" ] && [ ! -f "$PWD/vecsnap" ]; then echo "FAIL  a cache lies in the working directory"; failed=1; fi
expect 0 "no HOME" no_home node "$cli" health "$work/root" --fetch whole

# As in a function (AWS Lambda): all is read-only but one small disk, and there is no HOME nor anything else in the environment.
cat > "$work/function.mjs" <<JS
import { openSnapshot } from "$dist/src/index.js"
const [root, cacheDir, query] = process.argv.slice(2)
const reader = await openSnapshot(root, { cacheDir, cacheBytes: 400 * 2 ** 20, fetch: "whole" })
const { hits } = await reader.search(JSON.parse(query), { k: 10, probes: "all" })
await reader.close()
process.exitCode = hits.length === 10 ? 0 : 1
JS
mkdir -p "$work/mnt-function"
in_a_function() {
  unshare --mount bash -c '
    mount --make-rprivate / && mount -t tmpfs -o size=512m none "$2/mnt-function" && mount -o remount,ro,bind / || exit 99
    if touch "$2/x" 2>/dev/null; then exit 99; fi
    env -i TMPDIR="$2/mnt-function" "$1" "$2/function.mjs" "$2/root" "$2/mnt-function/cache" "$3"
  ' - "$(command -v node)" "$work" "$query"
}
if unshare --mount true 2>/dev/null; then
  expect 0 "a function: read-only but for one disk, no environment" in_a_function
else
  skip "a function" "mounts cannot be made here"
fi

if esbuild=$(command -v "${ESBUILD:-esbuild}"); then
  app="$work/app" && mkdir -p "$app"
  cat > "$app/main.mjs" <<JS
import { openSnapshot } from "$dist/src/index.js"
const reader = await openSnapshot(process.argv[2])
console.log((await reader.search(JSON.parse(process.argv[3]), { probes: "all" })).hits.length)
await reader.close()
JS
  expect 0 "esbuild: bundling with vecsnap and its native packages external" "$esbuild" "$app/main.mjs" --bundle --platform=node --format=esm \
    --packages=external "--external:$dist/src/index.js" --outfile="$app/out.mjs"
  expect 0 "esbuild: the bundle searches" node "$app/out.mjs" "$work/root" "$query"
else
  skip "esbuild" "it is not installed; ESBUILD names it"
fi
[ "$failed" = 0 ] && echo "all well"
exit "$failed"
