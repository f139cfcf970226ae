#!/bin/bash
# The manual of PostgreSQL, over 1,000 files as Debian ships them, through its whole life on a running
# `cargo xtask up`: see docs/real-tree.md. Ends with the time of every step, or at the first one that
# did not go as it says. Run it in the clone: tests/real-tree.sh [SITE]
set -euo pipefail
export LC_ALL=C PATH="$PWD/target/debug:$PATH"

site=${1:-manual}
place=$site/production
url=http://$site.localhost:${PORT:-8080}
work=$(mktemp -d)
visitors=
times=

leave() {
    if [ -n "$visitors" ]; then
        kill "$visitors" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap leave EXIT

fail() {
    echo "real-tree: $*" >&2
    exit 1
}

# Begins a step, and ends the one before.
step() {
    local now=$EPOCHREALTIME
    if [ -n "${named:-}" ]; then
        times+=$(awk -v a="$begun" -v b="$now" -v n="$named" \
            'BEGIN { printf "%7.1f s  %s", b - a, n }')$'\n'
    fi
    named=$1
    begun=$now
    printf '\n== %s\n' "$named" >&2
}

deploy() {
    candlefish deploy "$1" --site "$site" --env production "${@:2}"
}

# A command that has to end with 1, and to name something.
refused() {
    local names=$1 code=0
    shift
    "$@" 2>"$work/words" || code=$?
    cat "$work/words" >&2
    [ "$code" = 1 ] || fail "this should be refused with 1, and ended with $code: $*"
    grep -qF -- "$names" "$work/words" || fail "the refusal does not name $names: $*"
}

# What the home page must and must not say now.
shows() {
    curl -fsS "$url/" >"$work/home"
    if grep -q 'second edition' "$work/home"; then
        [ "$1" = second ] || fail "visitors see the second edition"
    else
        [ "$1" = first ] || fail "visitors see the first edition"
    fi
}

[ -d .dev/blobs ] || fail "run it in the clone, beside a running cargo xtask up"
if candlefish sites show "$site" >/dev/null 2>&1; then
    fail "there is a site $site already: name another, tests/real-tree.sh NAME"
fi

# Of the server that `up` installed: each release of Debian and Ubuntu has another.
manual=postgresql-doc-$(ls /usr/lib/postgresql | sort -n | tail -n 1)
step "fetch and unpack $manual"
(cd "$work" && apt-get download "$manual" >&2)
dpkg-deb -x "$work/$manual"_*.deb "$work/package"
first=$work/package/usr/share/doc/$manual/html
# Two links of the manual lead nowhere, one of them on every page; visitors follow links.
find "$first" -name '*.html' -exec sed -i \
    's/href="pgsql-docs@/href="mailto:pgsql-docs@/; s/href="dictionaries\.html/href="textsearch-dictionaries.html/' {} +
files=$(find "$first" -type f | wc -l)
[ "$files" -gt 1000 ] || fail "only $files files"
echo "$files files, $(du -sh "$first" | cut -f 1)" >&2
candlefish sites create "$site" --name "The manual of PostgreSQL"
candlefish env create "$place"

step "the first edition, $files files, blue-green"
deploy "$first" --strategy blue-green --until done
shows first

step "ten files changed, as a canary with visitors"
second=$work/second
cp -r "$first" "$second"
mark=$(date +%s%N)
find "$second" -name '*.html' ! -name index.html | sort | sed 9q >"$work/changed"
echo "$second/index.html" >>"$work/changed"
while read -r page; do
    echo "<!-- second edition, $mark -->" >>"$page"
done <"$work/changed"
cargo xtask traffic "$place" >"$work/visitors" 2>&1 &
visitors=$!
deploy "$second" --strategy canary --weights 10,50 --interval 10s --bake 10s --until done
shows second

step "refused: no index page"
third=$work/third
cp -r "$second" "$third"
rm "$third/index.html"
refused index.html deploy "$third" --strategy blue-green
shows second

step "refused: a blob that rotted in the store"
fourth=$work/fourth
cp -r "$second" "$fourth"
echo "<!-- soon to rot, $mark -->" >>"$fourth/sql.html"
# Held, so that the content is stored and nothing has read it yet.
candlefish hold set "$place" --reason "the content is to rot first"
deployment=$(deploy "$fourth" --strategy blue-green --detach)
digest=$(sha256sum "$fourth/sql.html" | cut -c 1-64)
blob=.dev/blobs/${digest:0:2}/${digest:2}
[ -f "$blob" ] || fail "there is no blob $blob"
echo "it has rotted" >"$blob"
candlefish hold lift "$place" --reason "it has rotted"
refused sql.html candlefish watch "$deployment"
shows second

step "rollback"
candlefish rollback "$place" --yes --reason "back to the first edition"
shows first
candlefish hold lift "$place" --reason "the first edition is live"

step "end"
kill "$visitors"
wait "$visitors" || true
visitors=
tail -n 1 "$work/visitors"
# `  12 s    2400 requests   200: 2400   slowest 9ms`: nothing but 200 in between.
tail -n 1 "$work/visitors" | grep -Eq '^ *[0-9]+ s +[0-9]+ requests +200: [0-9]+ +slowest ' ||
    fail "visitors got something else"
printf '%s' "$times"
