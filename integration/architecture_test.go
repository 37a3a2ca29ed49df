// Package integration_test holds the tests that see the whole house.
package integration_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/stratabroker/strata/"

// room is a package and the packages of this module that it may import. A star
// stands for one path element.
type room struct {
	name    string
	imports []string
}

// house is every package of the module, from low to high: a row names rows
// above it only. tiering and broker never import each other; each declares the
// interface it needs and package broker joins them.
//
// A new row or import is a change of the design: ask first whether the thing
// belongs into a lower room.
var house = []room{
	{"protocol", nil},
	{"protocol/record", []string{"protocol"}},
	{"protocol/compact", []string{"protocol", "protocol/record"}},

	{"metadata/metadatapb", nil},
	{"metadata", []string{"protocol", "protocol/record", "metadata/metadatapb"}},
	{"metadata/raftstore", nil},
	{"metadata/quorum", []string{"protocol", "metadata", "metadata/metadatapb", "metadata/raftstore"}},

	{"tiering/object", nil},
	{"tiering/object/dir", []string{"tiering/object"}},
	{"tiering/object/mem", []string{"tiering/object"}},
	{"tiering/object/s3", []string{"tiering/object"}},
	{"tiering/object/minio", []string{"tiering/object"}},
	{"tiering/object/drivers", []string{"tiering/object", "tiering/object/*"}},
	{"tiering/object/objecttest", []string{"tiering/object"}},
	{"tiering/object/objecttest/minio", []string{"tiering/object", "tiering/object/s3"}},
	{"tiering/format/formatpb", nil},
	{"tiering/format", []string{"protocol", "protocol/record", "metadata", "tiering/format/formatpb"}},
	{"tiering/plan", []string{"protocol", "protocol/compact", "metadata", "tiering/format"}},
	{"tiering/cache", []string{"tiering/object"}},
	{"tiering/recovery", []string{"protocol", "protocol/record", "metadata", "tiering/cache", "tiering/format", "tiering/object"}},
	{"tiering/export", []string{"protocol", "protocol/record", "tiering/object", "tiering/recovery"}},
	{"tiering", []string{"protocol", "protocol/record", "protocol/compact", "metadata", "metadata/metadatapb", "tiering/cache", "tiering/format", "tiering/object", "tiering/plan"}},

	{"broker/isr", []string{"protocol", "metadata"}},
	{"broker/producer", []string{"protocol", "protocol/record"}},
	{"broker/group", []string{"protocol", "metadata"}},
	{"broker/vfs", nil},
	{"broker/inspect", []string{"protocol", "protocol/record", "broker/producer"}},
	{"broker/log", []string{"protocol", "protocol/record", "protocol/compact", "broker/producer", "broker/vfs"}},
	{"broker/replica", []string{"protocol", "protocol/record", "metadata", "metadata/metadatapb", "broker/isr", "broker/log", "broker/producer"}},
	{"broker/coordinator", []string{"protocol", "protocol/record", "metadata", "broker/group"}},
	{"broker/server", []string{"protocol"}},
	{"broker/loggers", nil},
	{"broker/admin", []string{"protocol", "metadata", "metadata/metadatapb"}},
	{"broker/api", []string{"protocol", "protocol/record", "metadata", "broker/admin", "broker/coordinator", "broker/loggers", "broker/replica", "broker/server"}},
	{"broker", []string{"protocol", "protocol/compact", "protocol/record", "metadata", "metadata/*", "tiering", "tiering/*", "tiering/object/*", "broker/*"}},

	{"cmd/strata", []string{"protocol", "protocol/record", "metadata", "tiering/object", "tiering/object/drivers", "tiering/export", "tiering/recovery", "broker", "broker/loggers", "broker/inspect"}},
}

func matches(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { ok, _ := path.Match(p, pkg); return ok })
}

// TestImportsFollowTheHousePlan reads the sources by itself. A `go list` in a
// child process would do the same, but the test cache does not see which files
// that one read, and would pass a new violation from the cache.
func TestImportsFollowTheHousePlan(t *testing.T) {
	rooms := map[string][]string{}
	for _, r := range house {
		rooms[r.name] = r.imports
	}
	err := filepath.WalkDir("..", func(file string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "testdata" || len(entry.Name()) > 2 && entry.Name()[0] == '.'):
			return fs.SkipDir
		case entry.IsDir(), filepath.Ext(file) != ".go", strings.HasSuffix(file, "_test.go"):
			return nil
		}
		pkg := strings.TrimPrefix(filepath.ToSlash(filepath.Dir(file)), "../")
		if pkg == "integration" || strings.HasPrefix(pkg, "integration/") {
			return nil // tests and what they share see everything
		}
		list, known := rooms[pkg]
		if !known {
			t.Errorf("%s: package %s has no row in the house plan", file, pkg)
		}
		syntax, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range syntax.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if dep, ours := strings.CutPrefix(name, module); ours && !matches(list, dep) {
				t.Errorf("%s: %s must not import %s", file, pkg, dep)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestTheHousePlanPointsDownward keeps the table itself honest.
func TestTheHousePlanPointsDownward(t *testing.T) {
	lower := []string{}
	top := func(pkg string) string { first, _, _ := strings.Cut(pkg, "/"); return first }
	for _, r := range house {
		for _, pattern := range r.imports {
			if !slices.ContainsFunc(lower, func(name string) bool { return matches([]string{pattern}, name) }) {
				t.Errorf("%s may import %s, which no row above it is", r.name, pattern)
			}
			if pair := [2]string{top(r.name), top(pattern)}; r.name != "broker" && (pair == [2]string{"broker", "tiering"} || pair == [2]string{"tiering", "broker"}) {
				t.Errorf("%s may import %s: tiering and broker meet in package broker only", r.name, pattern)
			}
		}
		lower = append(lower, r.name)
	}
}
