package log

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/protocol/record"
)

// Names of the files beside the segments; all but bootFile and corruptFile are Kafka's.
const (
	recoveryFile = "recovery-point-offset-checkpoint"
	hwFile       = "replication-offset-checkpoint"
	startFile    = "log-start-offset-checkpoint"
	cleanerFile  = "cleaner-offset-checkpoint"
	cleanFile    = ".kafka_cleanshutdown"
	epochFile    = "leader-epoch-checkpoint"
	metadataFile = "partition.metadata"
	bootFile     = "strata-boot"                   // in the log directory: boots in which logs were written and not all recovered
	ageFile      = "strata-segment-age-checkpoint" // in the log directory: when active segments got their first record
	corruptFile  = "strata-corrupt"                // in a partition: it was found corrupt and must not be cut, whatever the boot
)

// errBadFile means that a checkpoint's bytes are not what was written.
var errBadFile = errors.New("file is corrupt")

// checkpointLines checks version and count and returns the entries' lines.
func checkpointLines(b []byte) ([]string, error) {
	text, whole := strings.CutSuffix(string(b), "\n")
	lines := strings.Split(text, "\n")
	if !whole || len(lines) < 2 {
		return nil, fmt.Errorf("%w: %d lines", errBadFile, len(lines))
	}
	if lines[0] != "0" {
		return nil, fmt.Errorf("%w: version %q", errBadFile, lines[0])
	}
	if n, err := strconv.Atoi(lines[1]); err != nil || n != len(lines)-2 {
		return nil, fmt.Errorf("%w: count %q of %d entries", errBadFile, lines[1], len(lines)-2)
	}
	return lines[2:], nil
}

// parseOffsets reads a *-offset-checkpoint, by directory name.
func parseOffsets(b []byte) (map[string]int64, error) {
	lines, err := checkpointLines(b)
	if err != nil {
		return nil, err
	}
	out := make(map[string]int64, len(lines))
	for _, line := range lines {
		f := strings.Split(line, " ")
		if len(f) != 3 || f[0] == "" {
			return nil, fmt.Errorf("%w: line %q", errBadFile, line)
		}
		partition, err1 := strconv.ParseInt(f[1], 10, 32)
		value, err2 := strconv.ParseInt(f[2], 10, 64)
		if err1 != nil || err2 != nil || partition < 0 || value < 0 {
			return nil, fmt.Errorf("%w: line %q", errBadFile, line)
		}
		name := dirName(f[0], int32(partition))
		if _, twice := out[name]; twice {
			return nil, fmt.Errorf("%w: %s is there twice", errBadFile, name)
		}
		out[name] = value
	}
	return out, nil
}

func encodeOffsets(offsets map[string]int64) []byte {
	names := make([]string, 0, len(offsets))
	for name := range offsets {
		names = append(names, name)
	}
	slices.Sort(names)
	out := fmt.Appendf(nil, "0\n%d\n", len(names))
	for _, name := range names {
		dash := strings.LastIndexByte(name, '-')
		out = fmt.Appendf(out, "%s %s %d\n", name[:dash], name[dash+1:], offsets[name])
	}
	return out
}

// parseEpochs reads a leader-epoch-checkpoint: epochs and starts ascend.
func parseEpochs(b []byte) ([]protocol.EpochStart, error) {
	lines, err := checkpointLines(b)
	if err != nil {
		return nil, err
	}
	var out []protocol.EpochStart
	for _, line := range lines {
		e, s, ok := strings.Cut(line, " ")
		epoch, err1 := strconv.ParseInt(e, 10, 32)
		start, err2 := strconv.ParseInt(s, 10, 64)
		if !ok || err1 != nil || err2 != nil || epoch < 0 || start < 0 {
			return nil, fmt.Errorf("%w: line %q", errBadFile, line)
		}
		next := protocol.EpochStart{Epoch: protocol.Epoch(epoch), Start: protocol.Offset(start)}
		if n := len(out); n > 0 && (next.Epoch <= out[n-1].Epoch || next.Start <= out[n-1].Start) {
			return nil, fmt.Errorf("%w: %v after %v", errBadFile, next, out[n-1])
		}
		out = append(out, next)
	}
	return out, nil
}

func encodeEpochs(epochs []protocol.EpochStart) []byte {
	out := fmt.Appendf(nil, "0\n%d\n", len(epochs))
	for _, e := range epochs {
		out = fmt.Appendf(out, "%d %d\n", e.Epoch, e.Start)
	}
	return out
}

// parseMetadata reads a partition.metadata.
func parseMetadata(b []byte) (protocol.TopicID, error) {
	rest, ok := bytes.CutPrefix(b, []byte("version: 0\ntopic_id: "))
	if !ok {
		return protocol.TopicID{}, fmt.Errorf("%w: %.40q", errBadFile, b)
	}
	id, err := protocol.ParseTopicID(strings.TrimSuffix(string(rest), "\n"))
	if err == nil && id.IsZero() {
		err = errors.New("zero topic id")
	}
	if err != nil {
		return protocol.TopicID{}, fmt.Errorf("%w: %w", errBadFile, err)
	}
	return id, nil
}

func encodeMetadata(id protocol.TopicID) []byte {
	return fmt.Appendf(nil, "version: 0\ntopic_id: %s", id)
}

// cleanShutdown is what .kafka_cleanshutdown holds since Kafka 3.7.
type cleanShutdown struct {
	Version     int                  `json:"version"`
	BrokerEpoch protocol.BrokerEpoch `json:"brokerEpoch"`
}

func parseClean(b []byte) (protocol.BrokerEpoch, error) {
	c := cleanShutdown{BrokerEpoch: -1}
	if err := json.Unmarshal(b, &c); err != nil {
		return -1, fmt.Errorf("%w: %w", errBadFile, err)
	}
	if c.Version != 0 || c.BrokerEpoch < -1 {
		return -1, fmt.Errorf("%w: version %d, broker epoch %d", errBadFile, c.Version, c.BrokerEpoch)
	}
	return c.BrokerEpoch, nil
}

func encodeClean(e protocol.BrokerEpoch) []byte {
	return fmt.Appendf(nil, `{"version":0,"brokerEpoch":%d}`, e)
}

const bootMagic = "strata-boot 1\n"

// parseBoots reads a strata-boot file: a boot id a line, then the CRC.
func parseBoots(b []byte) ([]string, error) {
	at := bytes.LastIndex(b, []byte("crc32c "))
	if at < 0 || !bytes.HasPrefix(b, []byte(bootMagic)) || string(b[at:]) != fmt.Sprintf("crc32c %08x\n", record.CRC(b[:at])) {
		return nil, fmt.Errorf("%w: %.40q", errBadFile, b)
	}
	return strings.Fields(string(b[len(bootMagic):at])), nil
}

func encodeBoots(boots []string) []byte {
	out := []byte(bootMagic)
	for _, id := range boots {
		out = append(append(out, id...), '\n')
	}
	return fmt.Appendf(out, "crc32c %08x\n", record.CRC(out))
}

// readFile returns nil without error where there is no such file.
func readFile(fsys vfs.FS, name string) ([]byte, error) {
	b, err := vfs.ReadFile(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// removeFile deletes; a missing file is no error.
func removeFile(fsys vfs.FS, name string) error {
	if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// syncError marks an error of a sync: what is on the disk is not known.
type syncError struct{ err error }

func (e *syncError) Error() string { return "sync failed: " + e.err.Error() }
func (e *syncError) Unwrap() error { return e.err }

func syncFile(f vfs.File) error {
	if err := f.Sync(); err != nil {
		return &syncError{err}
	}
	return nil
}

func syncDir(fsys vfs.FS, dir string) error {
	if err := fsys.SyncDir(dir); err != nil {
		return &syncError{err}
	}
	return nil
}

// writeFile creates or replaces a file, not atomically.
func writeFile(fsys vfs.FS, name string, data []byte, sync bool) (err error) {
	f, err := fsys.Open(name, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Truncate(0); err != nil {
		return err
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		return err
	}
	if !sync {
		return nil
	}
	return syncFile(f)
}

// replaceFile is vfs.WriteFileAtomic, but tells a failed sync from a failed write.
func replaceFile(fsys vfs.FS, name string, data []byte) error {
	tmp := name + ".tmp"
	err := writeFile(fsys, tmp, data, true)
	if err == nil {
		err = fsys.Rename(tmp, name)
	}
	if err != nil {
		return errors.Join(err, removeFile(fsys, tmp))
	}
	return syncDir(fsys, path.Dir(name))
}

func dirName(topic string, partition int32) string { return fmt.Sprintf("%s-%d", topic, partition) }

// parseDirName splits "<topic>-<partition>".
func parseDirName(name string) (topic string, partition int32, ok bool) {
	dash := strings.LastIndexByte(name, '-')
	if dash < 1 {
		return "", 0, false
	}
	p, err := strconv.ParseInt(name[dash+1:], 10, 32)
	if err != nil || p < 0 || strconv.FormatInt(p, 10) != name[dash+1:] {
		return "", 0, false
	}
	return name[:dash], int32(p), true
}
