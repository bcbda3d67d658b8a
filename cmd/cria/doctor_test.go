package main

import (
	"path/filepath"
	"strings"
	"testing"

	"cria/internal/compute/cpu/kernels"
)

func TestDoctor(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("CRIA_CACHE", cache)
	var d diagnosis
	cria(t, "doctor", "--json").parse(t, &d)
	if d.CPU.Threads < 1 || d.CPU.Kernels != kernels.Best().String() || d.Cache != cache || d.DemoModel != "" || len(d.Forecast) != len(forecastModels) {
		t.Errorf("%+v", d)
	}
	if kernels.Best() != kernels.Generic && (d.Peak.Float32One <= 0 || d.Peak.BFloat16All <= 0) {
		t.Errorf("peak %+v", d.Peak)
	}
	if len(d.Disks) == 0 || d.Disks[0].Free == 0 {
		t.Errorf("disks %+v", d.Disks)
	}
	model := filepath.Dir(write(t, filepath.Join(cache, "smollm2-135m-instruct", "1", "MANIFEST.json"), "{}"))
	r := cria(t, "doctor").ok(t)
	for _, want := range []string{"CPU ", "kernels", "free disk", model} {
		if !strings.Contains(r.out, want) {
			t.Errorf("standard output lacks %q:\n%s", want, r.out)
		}
	}
	if r.err != "" {
		t.Errorf("standard error: %s", r.err)
	}
}

// The matrices of the two models that the forecast names, counted from their published sizes.
func TestForecastSizes(t *testing.T) {
	for i, want := range []int64{134515008 - 61*576, 8030261248 - 65*4096} { // all parameters less the norms
		if m := forecastModels[i]; m.layers+m.head != want {
			t.Errorf("%s has %d weights, want %d", m.name, m.layers+m.head, want)
		}
	}
}
