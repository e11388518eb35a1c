package conformance

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/pod"
)

const repository = "../../.."

// place makes a value of a type part of a pod.
type place struct {
	zero any
	put  func(p *v1.Pod, value any)
}

// documented are the types whose fields docs/pods.md lists, by its headings.
func documented() map[string]place {
	container := func(p *v1.Pod) *v1.Container { return &p.Spec.Containers[0] }
	volume := func(p *v1.Pod, s v1.VolumeSource) {
		p.Spec.Volumes = []v1.Volume{{Name: "v", VolumeSource: s}}
	}
	inside := func(*v1.Pod, any) {} // all of its fields work: none has to be put anywhere
	return map[string]place{
		"PodSpec": {v1.PodSpec{}, func(p *v1.Pod, v any) {
			s := v.(v1.PodSpec)
			if s.Containers == nil {
				s.Containers = p.Spec.Containers
			}
			p.Spec = s
		}},
		"Container":            {v1.Container{}, func(p *v1.Pod, v any) { *container(p) = v.(v1.Container) }},
		"Lifecycle":            {v1.Lifecycle{}, func(p *v1.Pod, v any) { l := v.(v1.Lifecycle); container(p).Lifecycle = &l }},
		"ResourceRequirements": {v1.ResourceRequirements{}, func(p *v1.Pod, v any) { container(p).Resources = v.(v1.ResourceRequirements) }},
		"ContainerPort":        {v1.ContainerPort{}, inside},
		"EnvVar":               {v1.EnvVar{}, inside},
		"EnvVarSource": {v1.EnvVarSource{}, func(p *v1.Pod, v any) {
			s := v.(v1.EnvVarSource)
			container(p).Env = []v1.EnvVar{{Name: "A", ValueFrom: &s}}
		}},
		"EnvFromSource":           {v1.EnvFromSource{}, inside},
		"VolumeMount":             {v1.VolumeMount{}, inside},
		"VolumeSource":            {v1.VolumeSource{}, func(p *v1.Pod, v any) { volume(p, v.(v1.VolumeSource)) }},
		"EmptyDirVolumeSource":    {v1.EmptyDirVolumeSource{}, inside},
		"HostPathVolumeSource":    {v1.HostPathVolumeSource{}, inside},
		"ConfigMapVolumeSource":   {v1.ConfigMapVolumeSource{}, inside},
		"SecretVolumeSource":      {v1.SecretVolumeSource{}, inside},
		"KeyToPath":               {v1.KeyToPath{}, inside},
		"DownwardAPIVolumeSource": {v1.DownwardAPIVolumeSource{}, inside},
		"DownwardAPIVolumeFile":   {v1.DownwardAPIVolumeFile{}, inside},
		"ProjectedVolumeSource":   {v1.ProjectedVolumeSource{}, inside},
		"VolumeProjection": {v1.VolumeProjection{}, func(p *v1.Pod, v any) {
			volume(p, v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: []v1.VolumeProjection{v.(v1.VolumeProjection)}}})
		}},
		"PodSecurityContext": {v1.PodSecurityContext{}, func(p *v1.Pod, v any) { sc := v.(v1.PodSecurityContext); p.Spec.SecurityContext = &sc }},
		"SecurityContext":    {v1.SecurityContext{}, func(p *v1.Pod, v any) { sc := v.(v1.SecurityContext); container(p).SecurityContext = &sc }},
		"PodDNSConfig":       {v1.PodDNSConfig{}, inside},
		"HostAlias":          {v1.HostAlias{}, inside},
	}
}

// row is what docs/pods.md says of a field.
type row struct{ state, test string }

// readRows reads the tables of docs/pods.md: by heading, by field.
func readRows(t *testing.T) map[string]map[string]row {
	text, err := os.ReadFile(filepath.Join(repository, "docs/pods.md"))
	if err != nil {
		t.Fatal(err)
	}
	tables, heading := map[string]map[string]row{}, ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "## "); ok {
			heading, tables[name] = name, map[string]row{}
		}
		cells := strings.Split(line, "|")
		if heading == "" || len(cells) != 6 || !strings.HasPrefix(cells[1], " `") {
			continue
		}
		name := strings.Trim(cells[1], " `")
		if _, twice := tables[heading][name]; twice {
			t.Errorf("docs/pods.md: %s.%s has two rows", heading, name)
		}
		tables[heading][name] = row{strings.TrimSpace(cells[2]), strings.TrimSpace(cells[3])}
	}
	return tables
}

func TestEveryFieldHasARow(t *testing.T) {
	told, err := stories("fields")
	if err != nil {
		t.Fatal(err)
	}
	rows := readRows(t)
	types := documented()
	for heading := range rows {
		if _, ok := types[heading]; !ok {
			t.Errorf("docs/pods.md: nothing checks the table %s", heading)
		}
	}
	for heading, place := range types {
		fields := apiFields(reflect.TypeOf(place.zero))
		for name := range rows[heading] {
			if _, ok := fields[name]; !ok {
				t.Errorf("docs/pods.md: %s has no field %s", heading, name)
			}
		}
		for name, index := range fields {
			switch r, ok := rows[heading][name]; {
			case !ok:
				t.Errorf("docs/pods.md: no row for %s.%s", heading, name)
			case r.state == "works":
				if !exists(t, strings.Trim(r.test, "`"), func(story string) bool { return told[story] != nil }) {
					t.Errorf("docs/pods.md: %s.%s: there is no test %s", heading, name, r.test)
				}
			case r.state == "not yet":
				if !reported(place, name, index) {
					t.Errorf("%s.%s is not yet done, and NotImplemented passes it over in silence", heading, name)
				}
			case r.state != "ignored":
				t.Errorf("docs/pods.md: %s.%s is %q, which is none of the three states", heading, name, r.state)
			}
		}
	}
}

// apiFields are a type's fields by their names in JSON, with their place for reflection.
func apiFields(typ reflect.Type) map[string][]int {
	fields := map[string][]int{}
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" && strings.Contains(options, "inline") || f.Anonymous {
			for inner, index := range apiFields(f.Type) {
				fields[inner] = append([]int{i}, index...)
			}
			continue
		}
		fields[name] = []int{i}
	}
	return fields
}

// exists says whether there is a test: a story, or a function called "dir TestName".
func exists(t *testing.T, name string, story func(string) bool) bool {
	dir, function, ok := strings.Cut(name, " ")
	if !ok {
		return story(name)
	}
	files, err := filepath.Glob(filepath.Join(repository, dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\nfunc "+function+"(t *testing.T)") {
			return true
		}
	}
	return false
}

// reported says whether NotImplemented names a field of a pod that sets it to one of the values that it may have.
func reported(place place, name string, index []int) bool {
	for _, value := range samples(reflect.TypeOf(place.zero).FieldByIndex(index).Type, 0) {
		whole := reflect.New(reflect.TypeOf(place.zero)).Elem()
		whole.FieldByIndex(index).Set(value)
		p := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Name: "c"}}}}
		place.put(p, whole.Interface())
		for _, path := range pod.NotImplemented(p) {
			if path == name || strings.HasSuffix(path, "."+name) {
				return true
			}
		}
	}
	return false
}

// samples are values of a type other than its zero value, deep enough for what NotImplemented looks at.
func samples(typ reflect.Type, depth int) []reflect.Value {
	var list []reflect.Value
	switch typ.Kind() {
	case reflect.Pointer:
		list = append(list, reflect.New(typ.Elem()))
		if depth > 2 {
			break
		}
		for _, inner := range samples(typ.Elem(), depth+1) {
			p := reflect.New(typ.Elem())
			p.Elem().Set(inner)
			list = append(list, p)
		}
	case reflect.Struct:
		for i := range typ.NumField() {
			for _, inner := range samples(typ.Field(i).Type, depth+1) {
				s := reflect.New(typ).Elem()
				if s.Field(i).CanSet() {
					s.Field(i).Set(inner)
					list = append(list, s)
				}
			}
		}
	case reflect.Slice:
		list = append(list, reflect.MakeSlice(typ, 1, 1))
	case reflect.Map:
		m := reflect.MakeMap(typ)
		m.SetMapIndex(reflect.Zero(typ.Key()), reflect.Zero(typ.Elem()))
		list = append(list, m)
	case reflect.Bool:
		list = append(list, reflect.ValueOf(true).Convert(typ))
	case reflect.String:
		for _, word := range []string{"x", string(v1.AppArmorProfileTypeRuntimeDefault)} {
			list = append(list, reflect.ValueOf(word).Convert(typ))
		}
	case reflect.Int32, reflect.Int64:
		list = append(list, reflect.ValueOf(1).Convert(typ))
	}
	return list
}
