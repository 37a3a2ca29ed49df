package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Load reads results.json, one Result a line, of a row the earlier run first; no file is no results.
func Load(path string) ([]Result, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []Result
	for line := range bytes.Lines(text) {
		var r Result
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", path, len(out)+1, err)
		}
		out = append(out, r)
	}
	return out, nil
}

// keptRuns are the runs of a row that results hold: two, hours or commits apart, tell what
// of a figure is the row's and what the day's.
const keptRuns = 2

// Merge adds r behind the earlier runs of its row, of which the last keptRuns stay.
func Merge(all []Result, r Result) []Result {
	runs, first, end := 0, 0, len(all)
	for i := range all {
		if all[i].Row != r.Row {
			continue
		}
		if runs == 0 {
			first = i
		}
		runs, end = runs+1, i+1
	}
	all = slices.Insert(all, end, r)
	if runs == keptRuns {
		all = slices.Delete(all, first, first+1)
	}
	return all
}

// Save writes results.json.
func Save(path string, all []Result) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	for _, r := range all {
		if err := encoder.Encode(r); err != nil {
			return err
		}
	}
	return os.WriteFile(path, text.Bytes(), 0o644)
}

// Write renders RESULTS.md and the pictures into a folder.
func Write(folder string, rows []Row, results []Result) error {
	for _, row := range rows {
		if r, _ := find(results, row.Name); r != nil {
			if err := os.WriteFile(filepath.Join(folder, row.Name+".svg"), []byte(SVG(row, r)), 0o644); err != nil {
				return err
			}
		}
	}
	return os.WriteFile(filepath.Join(folder, "RESULTS.md"), []byte(Markdown(rows, results)), 0o644)
}
