package log

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/protocol"
)

// Dir is one log directory: the checkpoint files, the cache of open files, the
// committer and the disk reserve that its logs share. All methods may run concurrently.
type Dir struct {
	cfg       DirConfig
	handles   *handles
	committer committer
	journal   *journal
	points    *pointWriter
	reserve   reserve
	producers producerCount
	budget    atomic.Bool // the logs have used up their disk budget
	buffers   sync.Pool   // of *[]byte, one index page long

	clean      bool // the last stop was
	cleanEpoch protocol.BrokerEpoch
	strict     bool // a checkpoint was lost: nothing but a torn end may be cut
	sameBoot   bool
	epoch      atomic.Int64 // broker epoch for the next clean stop
	replaced   atomic.Int64 // groups of segments that were replaced by cleaned ones

	mu   sync.Mutex
	logs map[string]*Log
	// idle holds the directories without an open log: true while what was found
	// at the start was not recovered yet, false once it was, or was found corrupt.
	idle    map[string]bool
	foreign map[string]bool             // folders that only look like a partition's and were spoken of
	ids     map[string]protocol.TopicID // what partition.metadata said at the start, until the log is opened
	closed  bool

	// files guards the checkpoint files and what they hold. It is taken before mu.
	files    sync.Mutex
	recovery checkpointFile
	hw       checkpointFile
	starts   checkpointFile
	ages     checkpointFile
	cleaned  checkpointFile // up to where a log was cleaned
	boot     string
	boots    []string // in which logs were written that may not all have been recovered since
}

// checkpointFile is one offset checkpoint as it is on the disk.
type checkpointFile struct {
	name    string
	values  map[string]int64
	written []byte
	unsure  bool // a write failed: the file may not hold what values had before it either
}

// OpenDir reads the directory's checkpoints, removes what a deletion left, and
// notes durably that the next stop has not been clean yet. Logs are opened by OpenLog.
func OpenDir(cfg DirConfig) (*Dir, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Dir{
		cfg: cfg, handles: newHandles(cfg.FS, cfg.MaxOpenFiles), logs: map[string]*Log{}, idle: map[string]bool{}, foreign: map[string]bool{}, ids: map[string]protocol.TopicID{},
		cleanEpoch: -1,
		recovery:   checkpointFile{name: recoveryFile}, hw: checkpointFile{name: hwFile},
		starts: checkpointFile{name: startFile}, ages: checkpointFile{name: ageFile}, cleaned: checkpointFile{name: cleanerFile},
	}
	d.epoch.Store(-1)
	d.buffers.New = func() any { b := make([]byte, indexPage); return &b }
	d.journal = newJournal(d)
	d.committer = newGroupCommit(d)
	d.points = newPointWriter(d)
	d.reserve = reserve{dir: d}
	d.producers.most = cfg.MaxProducers
	if err := d.load(); err != nil {
		return nil, fmt.Errorf("open log directory %s: %w", cfg.Path, err)
	}
	return d, nil
}

func (d *Dir) path(name string) string { return path.Join(d.cfg.Path, name) }

func (d *Dir) buffer() *[]byte { return d.buffers.Get().(*[]byte) }

// load reads everything and sweeps leftovers.
func (d *Dir) load() error {
	entries, err := d.cfg.FS.List(d.cfg.Path)
	if err != nil {
		return err
	}
	swept := false
	for _, e := range entries {
		if e.Dir && isDeleted(e.Name) {
			if err := vfs.RemoveAll(d.cfg.FS, d.path(e.Name)); err != nil {
				return err
			}
			swept = true
		}
	}
	ours, err := d.inspectAll(entries)
	if err != nil {
		return err
	}
	for _, f := range ours {
		d.idle[f.Name] = true
		if !f.ID.IsZero() {
			d.ids[f.Name] = f.ID
		}
	}
	for _, c := range []*checkpointFile{&d.recovery, &d.hw, &d.starts, &d.ages, &d.cleaned} {
		if err := d.loadCheckpoint(c); err != nil {
			return err
		}
	}
	if err := d.loadClean(&swept); err != nil {
		return err
	}
	if swept {
		if err := syncDir(d.cfg.FS, d.cfg.Path); err != nil {
			return err
		}
	}
	if err := d.loadJournal(ours); err != nil {
		return err
	}
	return d.loadBoots()
}

// loadJournal reads what the journal holds of the partitions that were found.
func (d *Dir) loadJournal(ours []Found) error {
	points, unknown := map[protocol.PartitionKey]protocol.Offset{}, map[int32]bool{}
	for _, f := range ours {
		if f.ID.IsZero() {
			unknown[f.Partition] = true
			continue
		}
		points[protocol.PartitionKey{Topic: f.ID, Partition: f.Partition}] = protocol.Offset(d.recovery.values[f.Name])
	}
	if err := d.journal.load(points); err != nil {
		return err
	}
	d.journal.release(func(key protocol.PartitionKey) bool {
		_, found := points[key]
		return found || unknown[key.Partition]
	})
	return nil
}

// loadCheckpoint reads one file. Entries of directories that are gone stay
// until the log is opened, which tells of the loss, or the next Checkpoint.
func (d *Dir) loadCheckpoint(c *checkpointFile) error {
	b, err := readFile(d.cfg.FS, d.path(c.name))
	if err != nil {
		return err
	}
	c.values = map[string]int64{}
	if b == nil {
		return nil
	}
	values, err := parseOffsets(b)
	if err != nil {
		d.cfg.Logger.Error("checkpoint file cannot be read", "file", c.name, "err", err)
		if c.name == recoveryFile {
			d.strict = true
		}
		return nil
	}
	c.values, c.written = values, b
	return nil
}

// loadClean reads and removes .kafka_cleanshutdown; from here on a stop is unclean.
func (d *Dir) loadClean(swept *bool) error {
	b, err := readFile(d.cfg.FS, d.path(cleanFile))
	if err != nil || b == nil {
		return err
	}
	epoch, err := parseClean(b)
	if err != nil {
		d.cfg.Logger.Error("clean shutdown file cannot be read; the start counts as unclean", "err", err)
	} else {
		d.clean, d.cleanEpoch = true, epoch
	}
	*swept = true
	return removeFile(d.cfg.FS, d.path(cleanFile))
}

// loadBoots learns in which boots of the machine logs were written, and adds this one.
func (d *Dir) loadBoots() error {
	b, err := readFile(d.cfg.FS, d.path(bootFile))
	if err != nil {
		return err
	}
	if b != nil {
		if d.boots, err = parseBoots(b); err != nil {
			d.cfg.Logger.Error("boot file cannot be read; the start counts as one after a reboot", "err", err)
			d.boots = []string{"unknown"}
		}
	}
	id := strings.Join(strings.Fields(d.cfg.BootID), "-")
	if id == "" {
		id = "unknown-" + hex.EncodeToString(uuid())
	}
	d.boot = id
	d.sameBoot = len(d.boots) == 1 && d.boots[0] == id
	if slices.Contains(d.boots, id) {
		return nil
	}
	d.boots = append(d.boots, id)
	return replaceFile(d.cfg.FS, d.path(bootFile), encodeBoots(d.boots))
}

// Clean tells whether the last stop was clean.
func (d *Dir) Clean() bool { return d.clean }

// CleanBrokerEpoch is the broker epoch of the last clean stop, or -1.
func (d *Dir) CleanBrokerEpoch() protocol.BrokerEpoch { return d.cleanEpoch }

// SetBrokerEpoch says which epoch the next clean stop shall note.
func (d *Dir) SetBrokerEpoch(e protocol.BrokerEpoch) { d.epoch.Store(int64(e)) }

// SameBoot tells whether the machine has not been rebooted since the logs were
// last written or recovered.
func (d *Dir) SameBoot() bool { return d.sameBoot }

// Free returns the bytes that may still be written.
func (d *Dir) Free() (int64, error) {
	s, err := d.Space()
	return s.Free, err
}

// Space is the room of the disk.
func (d *Dir) Space() (vfs.Space, error) { return d.cfg.FS.Space(d.cfg.Path) }

// Path is where the directory lies, as it was opened.
func (d *Dir) Path() string { return d.cfg.Path }

// BelowReserve tells whether less than the reserve is free (DESIGN D7). The
// file system is asked at most every 100 ms.
func (d *Dir) BelowReserve() bool { return d.reserve.below() }

// SetOverBudget says whether the logs have used up their disk budget: while they have, clients' appends
// are refused (DESIGN D22).
func (d *Dir) SetOverBudget(over bool) { d.budget.Store(over) }

// OverBudget is what SetOverBudget said last.
func (d *Dir) OverBudget() bool { return d.budget.Load() }

// fatal ends the process where err is that of a sync.
func (d *Dir) fatal(err error) error {
	var failed *syncError
	if errors.As(err, &failed) {
		d.cfg.Logger.Error("sync failed, the process must end", "dir", d.cfg.Path, "err", err)
		if d.cfg.OnFatal == nil {
			panic(err)
		}
		d.cfg.OnFatal(err)
	}
	return err
}

// Checkpoint writes the checkpoint files for all logs: recovery points, log
// starts and high watermarks. They are durable on return.
func (d *Dir) Checkpoint() error {
	d.files.Lock()
	defer d.files.Unlock()
	return d.fatal(d.checkpoint())
}

// checkpoint needs files.
func (d *Dir) checkpoint() error {
	d.mu.Lock()
	logs := maps.Clone(d.logs)
	recovered := d.recovered()
	keep := func(name string) bool {
		_, idle := d.idle[name]
		return idle || logs[name].named()
	}
	for _, c := range []*checkpointFile{&d.recovery, &d.hw, &d.starts, &d.ages, &d.cleaned} {
		maps.DeleteFunc(c.values, func(name string, _ int64) bool { return !keep(name) })
	}
	d.mu.Unlock()
	for name, l := range logs {
		point, ok := l.checkpointPoint()
		if !ok {
			continue
		}
		d.recovery.values[name] = point
		d.starts.values[name] = int64(l.Start())
		d.hw.values[name] = l.checkpointHW()
		delete(d.ages.values, name)
		if ms := l.firstAppend.Load(); ms > 0 {
			d.ages.values[name] = ms
		}
	}
	for _, c := range []*checkpointFile{&d.recovery, &d.hw, &d.starts, &d.ages, &d.cleaned} {
		if err := d.write(c); err != nil {
			return err
		}
	}
	if !recovered || len(d.boots) == 1 {
		return nil
	}
	// Every log has been synced in this boot, so that earlier ones no longer matter.
	d.boots = []string{d.boot}
	return replaceFile(d.cfg.FS, d.path(bootFile), encodeBoots(d.boots))
}

// recovered tells whether every directory found at the start was; it needs mu.
func (d *Dir) recovered() bool {
	for _, waiting := range d.idle {
		if waiting {
			return false
		}
	}
	return true
}

func (d *Dir) write(c *checkpointFile) error {
	b := encodeOffsets(c.values)
	if bytes.Equal(b, c.written) || c.written == nil && !c.unsure && len(c.values) == 0 && c.name == cleanerFile {
		return nil
	}
	c.written, c.unsure = nil, true
	if err := replaceFile(d.cfg.FS, d.path(c.name), b); err != nil {
		return err
	}
	c.written, c.unsure = b, false
	return nil
}

// lowerRecoveryPoint makes durable that the checkpoint does not count anything
// at or above to as synced; a log without a directory has no entry at all.
// Without this, what comes to lie there later would be taken for corrupt, not
// for torn, after a crash.
func (d *Dir) lowerRecoveryPoint(name string, to protocol.Offset) error {
	d.files.Lock()
	defer d.files.Unlock()
	if err := d.lowerCleaned(name, int64(to)); err != nil {
		return d.fatal(err)
	}
	old, ok := d.recovery.values[name]
	if to < 0 {
		d.dropCheckpoints(name)
	}
	if to >= 0 && old > int64(to) {
		d.recovery.values[name] = int64(to)
	} else if !d.recovery.unsure && (to >= 0 || !ok) {
		return nil
	}
	return d.fatal(d.write(&d.recovery))
}

// dropCheckpoints forgets what the checkpoints say of a log. It needs files.
func (d *Dir) dropCheckpoints(name string) {
	for _, c := range []*checkpointFile{&d.recovery, &d.hw, &d.starts, &d.ages, &d.cleaned} {
		delete(c.values, name)
	}
}

// checkpointed returns what the files said of a log when the directory was opened.
func (d *Dir) checkpointed(name string) (recovery int64, known bool, hw, age int64) {
	d.files.Lock()
	defer d.files.Unlock()
	recovery, known = d.recovery.values[name]
	return recovery, known, d.hw.values[name], d.ages.values[name]
}

// Close ends all logs. When clean, everything is made durable first, with
// indexes, producer snapshots and checkpoints, and the next start scans nothing;
// otherwise files are only closed. No log method may run or be called after it.
func (d *Dir) Close(clean bool) error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	logs := slices.DeleteFunc(slices.Collect(maps.Values(d.logs)), func(l *Log) bool { return l == nil })
	d.mu.Unlock()
	d.committer.stop()
	d.journal.stop()
	d.points.stop()
	var err error
	if clean {
		err = d.fatal(d.closeClean(logs))
	}
	d.journal.close()
	for _, l := range logs {
		l.shut()
	}
	return err
}

func (d *Dir) closeClean(logs []*Log) error {
	work := make(chan *Log)
	errs := make([]error, maxSyncs)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			for l := range work {
				if err := l.settle(); err != nil {
					errs[i] = errors.Join(errs[i], fmt.Errorf("close %s: %w", l.name, err))
				}
			}
		})
	}
	for _, l := range logs {
		work <- l
	}
	close(work)
	wg.Wait()
	d.files.Lock()
	defer d.files.Unlock()
	if err := errors.Join(errors.Join(errs...), d.checkpoint()); err != nil {
		return err
	}
	if err := d.journal.empty(); err != nil {
		return err
	}
	d.mu.Lock()
	whole := d.recovered()
	d.mu.Unlock()
	if !whole {
		return nil // a log that was never recovered may not be trusted next time
	}
	return replaceFile(d.cfg.FS, d.path(cleanFile), encodeClean(protocol.BrokerEpoch(d.epoch.Load())))
}
