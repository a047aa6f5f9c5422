#!/bin/bash
# The daemon, from its first tenant to a capture: everything a user does, with
# real traffic through a pair of interfaces. As root, from the repository's
# folder, after make build:
#
#   testbed/examples/daemon.sh
#
# It makes three network namespaces and a daemon with temporary data, and takes
# all of it down at the end. With tshark installed the capture is read by it.
set -euo pipefail
export PATH=$PWD/bin:$PATH
dir=$(mktemp -d)
export SFC_SERVER=unix://$dir/sfcd.sock
lab=daemon-$$
daemon=

end() {
	status=$?
	trap - EXIT
	if [ "$status" != 0 ]; then
		echo "--- the daemon's log:"
		tail -n 40 "$dir/log" 2>/dev/null || true
	fi
	if [ -n "$daemon" ]; then
		kill "$daemon" 2>/dev/null || true
		wait "$daemon" 2>/dev/null || true
	fi
	sfcctl testbed down --name "$lab" >/dev/null || status=1
	rm -rf "$dir"
	exit "$status"
}
trap end EXIT
trap 'exit 130' INT TERM

say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; }
run() { say "$*"; "$@"; }
on() { sfcctl testbed exec --name "$lab" "$@"; }

run sfcctl testbed up --no-engine --name "$lab"

say "sfcd --dev --data-dir DIR --listen $SFC_SERVER   (on host engine)"
sfcctl testbed exec --name "$lab" engine -- sfcd --dev --data-dir "$dir/data" --listen "$SFC_SERVER" >"$dir/log" 2>&1 &
daemon=$!
for _ in $(seq 100); do
	sfcctl status >/dev/null 2>&1 && break
	sleep 0.1
done
run sfcctl status

run sfcctl tenant create acme --cpu 50% --memory 64Mi --flows 100k --modules 20
run sfcctl tenant token create acme --role deployer >"$dir/token"
export SFC_TENANT=acme
run sfcctl nf deploy nf/catalog/firewall/firewall.wasm --version 1.2.0
run sfcctl nf deploy nf/catalog/flowstat/flowstat.wasm --version 1.0.0
run sfcctl nf alias set firewall prod=1.2.0
run sfcctl nf list

run sfcctl port attach in --peer out --mode inline
run sfcctl port list
run sfcctl chain create -f testbed/examples/tenant.yaml
run sfcctl chain describe edge

say "ping and HTTP through the chain"
on client -- ping -c 3 -i 0.2 -q 10.0.1.2
head -c 5000000 /dev/urandom >"$dir/file"
sfcctl testbed exec --name "$lab" server -- python3 -m http.server --directory "$dir" 80 >"$dir/http" 2>&1 &
http=$!
for _ in $(seq 50); do
	on server -- bash -c ': </dev/tcp/10.0.1.2/80' 2>/dev/null && break
	sleep 0.1
done
on client -- curl -sS --max-time 60 -o "$dir/got" http://10.0.1.2/file
cmp "$dir/file" "$dir/got" && echo "5,000,000 bytes arrived as they were"
if on client -- timeout 2 bash -c ': </dev/tcp/10.0.1.2/23' 2>/dev/null; then
	echo "telnet went through the firewall" >&2
	exit 1
fi

run sfcctl flows --chain edge
run sfcctl top -n 1
run sfcctl events --limit 10

say "trace and capture, with requests under way"
(for _ in $(seq 100); do on client -- curl -s --max-time 5 -o /dev/null http://10.0.1.2/token || true; sleep 0.1; done) &
load=$!
run sfcctl trace edge -f 'host 10.0.1.1 and tcp port 80' -n 3
run sfcctl capture edge --at firewall:out -f tcp -n 20 -w "$dir/edge.pcapng"
if command -v tshark >/dev/null; then
	run tshark -r "$dir/edge.pcapng" -T fields -e frame.number -e ip.src -e ip.dst -e tcp.flags.str -e frame.comment | head -n 5
	test "$(tshark -r "$dir/edge.pcapng" | wc -l)" = 20
fi

say "the next version, under traffic"
run sfcctl nf deploy nf/catalog/firewall/firewall.wasm --version 1.3.0
run sfcctl nf alias set firewall prod=1.3.0
run sfcctl chain describe edge
kill "$load" 2>/dev/null || true
wait "$load" 2>/dev/null || true
kill "$http" 2>/dev/null || true
wait "$http" 2>/dev/null || true

run sfcctl nf alias rollback firewall prod
run sfcctl chain drain edge
run sfcctl chain list
run sfcctl chain delete edge
run sfcctl port detach in out

say "only what is signed"
run sfcctl nf keygen --out "$dir/release"
run sfcctl tenant key add acme release --file "$dir/release.pub"
run sfcctl tenant update acme --require-signed
if sfcctl nf deploy nf/catalog/acl/acl.wasm; then
	echo "an unsigned function was taken" >&2
	exit 1
fi
run sfcctl nf deploy nf/catalog/acl/acl.wasm --key "$dir/release.key"
run sfcctl nf list
run sfcctl tenant get acme
echo
echo "done"
