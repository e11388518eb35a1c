package bed

// agnhostSetup gives the image the one command of Kubernetes' agnhost that nothing of Debian's stands in for: a server of
// gRPC's health protocol (grpc.health.v1, github.com/grpc/grpc-proto). Its two messages have one field each, so they are
// written by hand: a request's service is field 1, a response's status too (1 serving, 2 not serving).
const agnhostSetup = `
cat > /agnhost <<'SCRIPT'
#!/usr/bin/python3
import argparse
import http.server
import threading
import time
from concurrent import futures

import grpc

parser = argparse.ArgumentParser(prog="agnhost")
server = parser.add_subparsers(dest="command", required=True).add_parser("grpc-health-checking")
server.add_argument("--port", type=int, default=5000)
server.add_argument("--http-port", type=int, default=8080)
server.add_argument("--delay-unhealthy-sec", type=int, default=-1, help="negative: never")
server.add_argument("--service", default="")
args = parser.parse_args()
began = time.monotonic()
forced = None  # what was last asked for with /make-serving or /make-not-serving


def check(request, context):
    if request != (b"" if not args.service else bytes([10, len(args.service)]) + args.service.encode()):
        context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
    serving = args.delay_unhealthy_sec < 0 or time.monotonic() - began < args.delay_unhealthy_sec
    if forced is not None:
        serving = forced
    return bytes([8, 1 if serving else 2])


class Switch(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global forced
        known = self.path in ("/make-serving", "/make-not-serving")
        if known:
            forced = self.path == "/make-serving"
        self.send_response(200 if known else 404)
        self.end_headers()


service = grpc.method_handlers_generic_handler(
    "grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(check)})
health = grpc.server(futures.ThreadPoolExecutor(4), handlers=[service])
if health.add_insecure_port("[::]:%d" % args.port) == 0:
    raise SystemExit("port %d can't be had" % args.port)
health.start()
threading.Thread(target=http.server.ThreadingHTTPServer(("", args.http_port), Switch).serve_forever, daemon=True).start()
print("serving", flush=True)
health.wait_for_termination()
SCRIPT
chmod 755 /agnhost
/agnhost grpc-health-checking --help > /dev/null`
