package fleet

import (
	"encoding/json"
	"fmt"
)

// member is one line of `shoal members -o json`.
type member struct {
	Name   string `json:"name"`
	Status string `json:"status"`
	Ready  bool   `json:"ready"`
}

// together waits until each of these hosts has all of them in sight.
func (c cluster) together(hosts ...string) {
	c.Helper()
	for _, host := range hosts {
		c.eventually(host+" sees all members", func() error {
			out, err := c.try(host, "shoal members -o json")
			if err != nil {
				return err
			}
			var list struct {
				Members []member `json:"members"`
			}
			if err := json.Unmarshal([]byte(out), &list); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			alive := map[string]bool{}
			for _, m := range list.Members {
				alive[m.Name] = m.Status == "alive" && m.Ready
			}
			for _, other := range hosts {
				if !alive[other] {
					return fmt.Errorf("%s is not alive and ready in %s", other, out)
				}
			}
			return nil
		})
	}
}
