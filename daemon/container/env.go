package container

import "strings"

// defaultPath is what Docker and containerd give an image that sets no PATH.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment merges defaults, the image's variables and the container's own;
// later ones win and keep the place of the first of their name.
func environment(hostname string, home string, tty bool, image, own []string) []string {
	env := []string{defaultPath}
	if tty {
		env = append(env, "TERM=xterm")
	}
	if hostname != "" {
		env = append(env, "HOSTNAME="+hostname)
	}
	place := map[string]int{}
	for i, kv := range env {
		place[key(kv)] = i
	}
	for _, list := range [][]string{image, own} {
		for _, kv := range list {
			if i, ok := place[key(kv)]; ok {
				env[i] = kv
				continue
			}
			place[key(kv)] = len(env)
			env = append(env, kv)
		}
	}
	if _, ok := place["HOME"]; !ok {
		env = append(env, "HOME="+home)
	}
	return env
}

func key(kv string) string {
	k, _, _ := strings.Cut(kv, "=")
	return k
}
