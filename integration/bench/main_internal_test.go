package main

import (
	"slices"
	"testing"

	"github.com/stratabroker/strata/integration/bench/report"
)

func TestRowsAreChosenByTheirNameOrAPattern(t *testing.T) {
	var all []row
	for _, name := range []string{"self", "produce-small", "produce-small-fsync", "consume-1"} {
		all = append(all, row{Row: report.Row{Name: name}})
	}
	for names, want := range map[string][]string{
		"":                    {"self", "produce-small", "produce-small-fsync", "consume-1"},
		"produce-small":       {"produce-small"},
		"produce-small*":      {"produce-small", "produce-small-fsync"},
		"consume-1,self":      {"self", "consume-1"},
		"produce-*,*-fsync":   {"produce-small", "produce-small-fsync"},
		"produce":             nil,
		"self,produce-small-": nil,
		"[":                   nil,
	} {
		rows, err := choose(all, names)
		var got []string
		for _, r := range rows {
			got = append(got, r.Name)
		}
		if !slices.Equal(got, want) || (err != nil) != (want == nil) {
			t.Errorf("%q: %q, %v, want %q", names, got, err, want)
		}
	}
}
