package pod

import (
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
)

func TestTheFencingTokenIsInTheEnvironmentWhateverThePodSays(t *testing.T) {
	c := &v1.Container{Name: "app", Env: []v1.EnvVar{
		{Name: "ARGS", Value: "--token=$(SHOAL_FENCING_TOKEN)"}, {Name: TokenVariable, Value: "1"},
	}}
	for _, test := range []struct {
		token uint64
		want  []string
	}{
		{0, []string{"ARGS=--token=$(SHOAL_FENCING_TOKEN)", "SHOAL_FENCING_TOKEN=1"}},
		{18446744073709551615, []string{"SHOAL_FENCING_TOKEN=18446744073709551615", "ARGS=--token=18446744073709551615"}},
	} {
		got, err := Env(&v1.Pod{}, c, test.token, Node{}, nil, nil)
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("token %d: got %v, %v, want %v", test.token, got, err, test.want)
		}
	}
}
