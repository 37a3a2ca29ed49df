package quorum

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// The folder's format: README.md of package metadata lists the versions.
const (
	formatFile    = "format"
	formatVersion = 1
	formatPrefix  = "strata metadata "
)

// checkFormat makes the folder if it is new, and refuses one that this binary
// cannot read. The file is durable before anything else is put in the folder.
func checkFormat(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("make metadata folder: %w", err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, formatFile))
	if errors.Is(err, fs.ErrNotExist) {
		return newFormat(dir)
	}
	if err != nil {
		return fmt.Errorf("read the format of the metadata folder: %w", err)
	}
	version, err := parseFormat(string(raw))
	switch {
	case err != nil:
		return fmt.Errorf("%w: %s/%s: %w", ErrForeignFolder, dir, formatFile, err)
	case version > formatVersion:
		return fmt.Errorf("%w: %s is of version %d, this binary knows %d", ErrNewerFormat, dir, version, formatVersion)
	}
	return nil
}

func newFormat(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list metadata folder: %w", err)
	}
	for _, e := range entries {
		if e.Name() != formatFile+".tmp" {
			return fmt.Errorf("%w: %s holds %s but no file %s", ErrForeignFolder, dir, e.Name(), formatFile)
		}
	}
	name := filepath.Join(dir, formatFile)
	if err := writeSynced(name+".tmp", formatLine(formatVersion)); err != nil {
		return fmt.Errorf("write the format of the metadata folder: %w", err)
	}
	if err := os.Rename(name+".tmp", name); err != nil {
		return fmt.Errorf("write the format of the metadata folder: %w", err)
	}
	return errors.Join(syncDir(dir), syncDir(filepath.Dir(dir)))
}

// formatLine is "strata metadata <version> crc32c:<8 hex digits>\n".
func formatLine(version uint64) string {
	text := formatPrefix + strconv.FormatUint(version, 10)
	return fmt.Sprintf("%s crc32c:%08x\n", text, crc32.Checksum([]byte(text), crc32.MakeTable(crc32.Castagnoli)))
}

func parseFormat(line string) (uint64, error) {
	rest, ok := strings.CutPrefix(line, formatPrefix)
	digits, _, _ := strings.Cut(rest, " ")
	version, err := strconv.ParseUint(digits, 10, 32)
	if !ok || err != nil || version == 0 || formatLine(version) != line {
		return 0, fmt.Errorf("%q is not a format line", line)
	}
	return version, nil
}

func writeSynced(name, text string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
