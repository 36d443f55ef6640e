#!/bin/bash
. "$(dirname "$0")/lib.sh"
need_keep
[ -x "$bin/donjon-package" ] || { echo "SKIP: donjon-package is not built"; exit 77; }
make_app; start_agent
digest="$("$donjon" pack -q -o "$tmp/oci" "$tmp/app")"
deploy_package() { "$donjon" deploy --host "$host" --allow-no-tee --secret "key=$tmp/secret" "$1"; }
cat >"$tmp/registry.py" <<'PY'
import http.server, os, sys
# As much of a registry as reading needs; MODE lies about blobs.
blobs, mode = sys.argv[1] + "/blobs/sha256/", sys.argv[2]
class Registry(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_): pass
    def do_GET(self):
        path = blobs + self.path.rsplit("sha256:", 1)[-1]
        data = open(path, "rb").read() if os.path.isfile(path) else b""
        is_blob = "/blobs/" in self.path
        if mode == "other" and is_blob: data = data[:-1] + bytes([data[-1] ^ 1]) if data else b""
        if mode == "short" and is_blob: data = data[:-1]
        if mode == "manifest" and not is_blob: data += b" "
        self.send_response(200 if os.path.isfile(path) else 404)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    do_HEAD = do_GET
s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
print(s.server_port, flush=True)
s.serve_forever()
PY
registry() { # registry MODE: sets reference
  rm -f "$tmp/registry"
  python3 "$tmp/registry.py" "$tmp/oci" "$1" >"$tmp/registry" & pids+=($!)
  local i
  for i in $(seq 100); do [ -s "$tmp/registry" ] && break; sleep 0.05; done
  reference="127.0.0.1:$(cat "$tmp/registry")/shop@$digest"
}
registry honest; works deploy_package "$reference"
attack "the registry serves other bytes of the same length"; registry other
refused "other bytes|digest" deploy_package "$reference"
attack "the registry serves a truncated package"; registry short
refused "truncated|shorter|digest" deploy_package "$reference"
attack "the registry serves another manifest than was asked for"; registry manifest
refused "not the one asked for|digest" deploy_package "$reference"
attack "a package on the tenant's own disk was cut off"
for f in "$tmp"/oci/blobs/sha256/*; do truncate -s -1 "$f"; done
refused "truncated|other bytes" deploy_package "oci:$tmp/oci@$digest"
