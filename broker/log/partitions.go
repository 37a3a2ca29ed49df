package log

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
)

// deleteSuffix ends the name of a directory that is being removed, as Kafka's does.
const deleteSuffix = "-delete"

// maxName is the length in bytes of the longest name that file systems take.
const maxName = 255

// Partitions lists the directories of partitions. A folder that only has such
// a name (a bucket's, a backup) is not listed and is left alone.
func (d *Dir) Partitions() ([]Found, error) {
	entries, err := d.cfg.FS.List(d.cfg.Path)
	if err != nil {
		return nil, err
	}
	return d.inspectAll(entries)
}

// inspectors is how many directories are looked at at a time: a disk answers many reads together.
const inspectors = 32

// inspectAll lists what of entries is a partition's. The error is that of all that failed, in their order.
func (d *Dir) inspectAll(entries []vfs.Entry) ([]Found, error) {
	found, ours, errs := make([]Found, len(entries)), make([]bool, len(entries)), make([]error, len(entries))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(inspectors, len(entries)) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(entries)); i = next.Add(1) - 1 {
				found[i], ours[i], errs[i] = d.inspect(entries[i])
			}
		})
	}
	wg.Wait()
	out := found[:0]
	for i, f := range found {
		if ours[i] {
			out = append(out, f)
		}
	}
	return out, errors.Join(errs...)
}

// inspect tells whether an entry of the log directory is a partition's: its
// partition.metadata names a topic id, or, where that is missing or torn, all it
// holds are files of a partition, and there are some.
func (d *Dir) inspect(e vfs.Entry) (Found, bool, error) {
	topic, partition, ok := parseDirName(e.Name)
	if !ok || !e.Dir || isDeleted(e.Name) {
		return Found{}, false, nil
	}
	f := Found{Name: e.Name, Topic: topic, Partition: partition}
	id, err := d.topicID(e.Name)
	if err == nil {
		f.ID = id
		return f, true, nil
	}
	if !errors.Is(err, errBadFile) {
		return Found{}, false, err
	}
	entries, err := d.cfg.FS.List(d.path(e.Name))
	if err != nil {
		return Found{}, false, ignoreMissing(err)
	}
	foreign := foreignFile(entries)
	if foreign != "" {
		d.leaveAlone(e.Name, foreign)
	}
	return f, foreign == "" && len(entries) > 0, nil
}

// leaveAlone says once of a folder that it is not a partition's.
func (d *Dir) leaveAlone(name, foreign string) {
	d.mu.Lock()
	known := d.foreign[name]
	d.foreign[name] = true
	d.mu.Unlock()
	if !known {
		d.cfg.Logger.Info("folder has a partition's name but is none, it is left alone", "folder", d.path(name), "holds", foreign)
	}
}

// foreignFile is the first name that cannot be one of a partition's files; "" without any.
func foreignFile(entries []vfs.Entry) string {
	for _, e := range entries {
		if e.Dir || !isPartitionFile(e.Name) {
			return e.Name
		}
	}
	return ""
}

// isPartitionFile knows Kafka's layout, with what a writing or a removal leaves.
func isPartitionFile(name string) bool {
	if replaced, ok := strings.CutSuffix(name, deletedSuffix); ok {
		name = strings.TrimRight(replaced, "0123456789") // of a segment that was cleaned, with a dot before
		name = strings.TrimSuffix(name, ".")
	}
	for _, suffix := range []string{".tmp", cleanedSuffix, swapSuffix} {
		name = strings.TrimSuffix(name, suffix)
	}
	if slices.Contains([]string{metadataFile, epochFile, corruptFile}, name) {
		return true
	}
	_, suffix, ok := parseFileName(name)
	if !ok {
		return false
	}
	for kind := range kinds {
		if suffix == kind.suffix() {
			return true
		}
	}
	return suffix == snapshotSuffix
}

// topicID is what partition.metadata says; errBadFile where it is missing or torn. What was
// read at the start is not read again.
func (d *Dir) topicID(name string) (protocol.TopicID, error) {
	d.mu.Lock()
	id, ok := d.ids[name]
	d.mu.Unlock()
	if ok {
		return id, nil
	}
	b, err := readFile(d.cfg.FS, path.Join(d.path(name), metadataFile))
	if err != nil {
		return protocol.TopicID{}, err
	}
	if b == nil {
		return protocol.TopicID{}, fmt.Errorf("%w: %s is missing", errBadFile, metadataFile)
	}
	return parseMetadata(b)
}

// SetAside renames a partition's directory and removes it; the deletion is
// durable on return, also when a later step fails. Its log must not be open. A
// folder that is not a partition's is refused.
func (d *Dir) SetAside(name string) error {
	d.mu.Lock()
	_, open := d.logs[name]
	d.mu.Unlock()
	if open {
		return fmt.Errorf("set aside %s: its log is open", name)
	}
	entries, err := d.cfg.FS.List(d.path(name))
	if ignoreMissing(err) != nil {
		return fmt.Errorf("set aside %s: %w", name, err)
	}
	if foreign := foreignFile(entries); foreign != "" {
		if _, err := d.topicID(name); err != nil {
			return fmt.Errorf("set aside %s: it holds %q and is not a partition's: %w", name, foreign, err)
		}
	}
	return d.setAside(name)
}

func (d *Dir) setAside(name string) error {
	aside := deletedName(name)
	id, idErr := d.topicID(name)
	if err := d.cfg.FS.Rename(d.path(name), d.path(aside)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			d.forget(name)
			return nil
		}
		return fmt.Errorf("set aside %s: %w", name, err)
	}
	if err := d.fatal(syncDir(d.cfg.FS, d.cfg.Path)); err != nil {
		return fmt.Errorf("set aside %s: %w", name, err)
	}
	d.forget(name)
	if _, partition, ok := parseDirName(name); ok && idErr == nil {
		d.journal.forget(protocol.PartitionKey{Topic: id, Partition: partition})
	}
	if err := vfs.RemoveAll(d.cfg.FS, d.path(aside)); err != nil {
		return fmt.Errorf("remove %s: %w", aside, err)
	}
	return nil
}

// deletedName is a fresh name "<topic>-<partition>.<32 hex>-delete". As in
// Kafka the topic is cut short where the name would be too long.
func deletedName(name string) string {
	dash := strings.LastIndexByte(name, '-')
	rest := fmt.Sprintf("%s.%s%s", name[dash:], hex.EncodeToString(uuid()), deleteSuffix)
	return name[:min(dash, maxName-len(rest))] + rest
}

// isDeleted tells whether deletedName made the name.
func isDeleted(name string) bool {
	name, ok := strings.CutSuffix(name, deleteSuffix)
	dot := strings.LastIndexByte(name, '.')
	if !ok || dot < 0 {
		return false
	}
	id, err := hex.DecodeString(name[dot+1:])
	_, _, partition := parseDirName(name[:dot])
	return err == nil && len(id) == uuidLen && partition
}

// forget notes that the directory was removed, so that nothing of it is lost.
// Its recovery point stays: lowerRecoveryPoint removes it from the file as well.
func (d *Dir) forget(name string) {
	d.files.Lock()
	defer d.files.Unlock()
	delete(d.hw.values, name)
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.idle, name)
	delete(d.ids, name)
}

const uuidLen = 16

func uuid() []byte {
	b := make([]byte, uuidLen)
	_, _ = rand.Read(b) // never fails
	return b
}
