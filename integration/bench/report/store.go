package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Load reads results.json, one Result a line; no file is no results.
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

// Merge puts r in the place of an earlier result of its row, or at the end.
func Merge(all []Result, r Result) []Result {
	for i := range all {
		if all[i].Row == r.Row {
			all[i] = r
			return all
		}
	}
	return append(all, r)
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
		if r := find(results, row.Name); r != nil {
			if err := os.WriteFile(filepath.Join(folder, row.Name+".svg"), []byte(SVG(row, r)), 0o644); err != nil {
				return err
			}
		}
	}
	return os.WriteFile(filepath.Join(folder, "RESULTS.md"), []byte(Markdown(rows, results)), 0o644)
}
