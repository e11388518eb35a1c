package bed

import (
	"fmt"
	"maps"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// image is how one image is made and what it is called. The program inside is Debian's, whatever version a tag claims:
// tags exist so that YAML from the wild finds what it asks for.
type image struct {
	names    []string // complete, with tag
	scratch  bool     // nothing but what setup puts into $ROOT; otherwise Debian with packages
	packages []string
	setup    string // shell: in the image's root, or, for scratch, on the machine with the root in $ROOT
	config   v1.Config
}

// ImageNames lists what images can be served, by the short names that Config.Images takes.
func ImageNames() []string { return slices.Sorted(maps.Keys(catalogue())) }

// References are the complete names under which an image is served.
func References(image string) []string { return slices.Clone(catalogue()[image].names) }

// tagged are the names of one repository.
func tagged(repository string, tags ...string) []string {
	var names []string
	for _, tag := range tags {
		names = append(names, repository+":"+tag)
	}
	return names
}

func port80() map[string]struct{} { return map[string]struct{}{"80/tcp": {}} }

// catalogue is made anew for each caller, who may change it.
func catalogue() map[string]image {
	return map[string]image{
		"debian": {
			names:  tagged("docker.io/library/debian", "latest", "12", "bookworm", "bookworm-slim", "stable", "stable-slim"),
			config: v1.Config{Cmd: []string{"bash"}},
		},
		"busybox": {
			names: slices.Concat(
				tagged("docker.io/library/busybox", "latest", "1", "1.27", "1.28", "1.28.0", "1.31", "1.34", "1.35", "1.36", "stable", "uclibc", "glibc", "musl"),
				tagged("registry.k8s.io/busybox", "latest", "1.24", "1.27", "1.27.2"),
				tagged("gcr.io/google-containers/busybox", "latest", "1.24"),
				tagged("registry.k8s.io/e2e-test-images/busybox", "1.29-4")),
			scratch: true,
			setup: `
mkdir -p "$ROOT/bin" "$ROOT/etc" "$ROOT/tmp" "$ROOT/root" "$ROOT/var/www" "$ROOT/usr"
chmod 1777 "$ROOT/tmp"
fetch busybox-static
cp "$DEB/bin/busybox" "$ROOT/bin/busybox"
chroot "$ROOT" /bin/busybox --install -s /bin
ln -s ../bin "$ROOT/usr/bin"
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' > "$ROOT/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' > "$ROOT/etc/group"`,
			config: v1.Config{Cmd: []string{"sh"}},
		},
		"pause": {
			names: slices.Concat(
				tagged("registry.k8s.io/pause", "latest", "2.0", "3.1", "3.5", "3.6", "3.7", "3.8", "3.9", "3.10"),
				tagged("gcr.io/google-containers/pause", "latest", "2.0", "3.1"),
				tagged("k8s.gcr.io/pause", "2.0", "3.1", "3.5")),
			scratch: true,
			setup:   "fetch catatonit\ncp \"$DEB/usr/bin/catatonit\" \"$ROOT/pause\"",
			config:  v1.Config{Entrypoint: []string{"/pause", "-P"}, User: "65535:65535"},
		},
		"nginx": {
			names: slices.Concat(
				tagged("docker.io/library/nginx", "latest", "1", "1.7.9", "1.14", "1.14.2", "1.15", "1.16", "1.16.1", "1.19", "1.20", "1.21", "1.22", "1.25", "1.27", "stable", "alpine", "mainline"),
				tagged("registry.k8s.io/nginx-slim", "0.8", "0.21", "0.24", "0.27"),
				tagged("registry.k8s.io/nginx", "latest", "1.7.9")),
			packages: []string{"nginx-light"},
			// The layout of Docker's official image, which manifests mount into.
			setup: `
rm -f /etc/nginx/sites-enabled/default
cat > /etc/nginx/conf.d/default.conf <<'CONF'
server {
    listen 80;
    listen [::]:80;
    server_name localhost;
    location / {
        root /usr/share/nginx/html;
        index index.html index.htm;
    }
}
CONF
ln -sf /dev/stdout /var/log/nginx/access.log
ln -sf /dev/stderr /var/log/nginx/error.log
test -e /usr/share/nginx/html/index.html`,
			config: v1.Config{Cmd: []string{"nginx", "-g", "daemon off;"}, ExposedPorts: port80(), StopSignal: "SIGQUIT"},
		},
		"redis": {
			names:    tagged("docker.io/library/redis", "latest", "5", "5.0.4", "6", "6.0.5", "7", "7.0", "alpine"),
			packages: []string{"redis-server"},
			setup:    "mkdir -p /data && chown redis:redis /data",
			config: v1.Config{Cmd: []string{"redis-server", "--protected-mode", "no"}, WorkingDir: "/data",
				Volumes: map[string]struct{}{"/data": {}}, ExposedPorts: map[string]struct{}{"6379/tcp": {}}},
		},
		"python": {
			names:    tagged("docker.io/library/python", "latest", "3", "3.9", "3.11", "3.12", "slim", "3-slim", "3.11-slim", "alpine", "3-alpine"),
			packages: []string{"python3"},
			setup:    "ln -s /usr/bin/python3 /usr/local/bin/python3; ln -s /usr/bin/python3 /usr/local/bin/python",
			config:   v1.Config{Cmd: []string{"python3"}},
		},
		"postgres": {
			names:    tagged("docker.io/library/postgres", "latest", "9.6", "10", "13", "14", "15", "16", "alpine"),
			packages: []string{"postgresql-15", "gosu"},
			setup:    postgresSetup,
			config: v1.Config{
				Entrypoint: []string{"docker-entrypoint.sh"}, Cmd: []string{"postgres"},
				Env: []string{"PATH=/usr/lib/postgresql/15/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
					"PGDATA=/var/lib/postgresql/data"},
				StopSignal: "SIGINT", ExposedPorts: map[string]struct{}{"5432/tcp": {}},
				Volumes: map[string]struct{}{"/var/lib/postgresql/data": {}},
			},
		},
		"stress": {
			names:    tagged("docker.io/polinux/stress", "latest", "1.0.4"),
			packages: []string{"stress"},
			config:   v1.Config{Cmd: []string{"stress", "--version"}},
		},
		"perl": {
			names:    tagged("docker.io/library/perl", "latest", "5", "5.34", "5.34.0"),
			packages: []string{"perl"},
			config:   v1.Config{Cmd: []string{"perl", "-de0"}},
		},
		"curl": {
			names:    tagged("docker.io/curlimages/curl", "latest"),
			packages: []string{"curl", "ca-certificates"},
			config:   v1.Config{Entrypoint: []string{"curl"}},
		},
		"agnhost": {
			names:    tagged("registry.k8s.io/e2e-test-images/agnhost", "2.55", "2.63.0"),
			packages: []string{"python3-grpcio"},
			setup:    agnhostSetup,
			config:   v1.Config{Entrypoint: []string{"/agnhost"}},
		},
	}
}

// postgresSetup gives the image the start script whose variables manifests rely on (POSTGRES_PASSWORD, POSTGRES_USER,
// POSTGRES_DB, PGDATA, POSTGRES_HOST_AUTH_METHOD), as documented with Docker's official image.
var postgresSetup = fmt.Sprintf(`
rm -rf /var/lib/postgresql/15
cat > /usr/local/bin/docker-entrypoint.sh <<'SCRIPT'
%s
SCRIPT
chmod 755 /usr/local/bin/docker-entrypoint.sh`, `#!/bin/sh
set -eu
case ${1:-} in
-*) set -- postgres "$@" ;;
postgres) ;;
*) exec "$@" ;;
esac
if [ "$(id -u)" = 0 ]; then
	mkdir -p "$PGDATA" /run/postgresql
	chown -R postgres:postgres "$PGDATA" /run/postgresql
	chmod 700 "$PGDATA"
	exec gosu postgres "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
	user=${POSTGRES_USER:-postgres}
	method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
	if [ -z "${POSTGRES_PASSWORD:-}" ] && [ "$method" != trust ]; then
		echo 'Error: set POSTGRES_PASSWORD, or POSTGRES_HOST_AUTH_METHOD=trust' >&2
		exit 1
	fi
	new=$(mktemp)
	printf '%s\n' "${POSTGRES_PASSWORD:-none}" > "$new"
	initdb -U "$user" --pwfile="$new" --auth-local=trust --auth-host="$method" -D "$PGDATA"
	rm "$new"
	echo "host all all all $method" >> "$PGDATA/pg_hba.conf"
	echo "listen_addresses = '*'" >> "$PGDATA/postgresql.conf"
	if [ "${POSTGRES_DB:-$user}" != postgres ]; then
		pg_ctl -D "$PGDATA" -w -o "-c listen_addresses=" start
		createdb -U "$user" "${POSTGRES_DB:-$user}"
		pg_ctl -D "$PGDATA" -w -m fast stop
	fi
fi
exec "$@"`)
