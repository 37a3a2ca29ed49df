package broker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/stratabroker/strata/broker/producer"
	"github.com/stratabroker/strata/protocol/compact"
	"github.com/stratabroker/strata/tiering"
)

// spoolPrefix begins the names of files that hold what a compaction of the cold tier is about to upload.
const spoolPrefix = ".strata-spool-"

// spool makes room for so many bytes in the data folder. The file has no name: it is gone when it is closed, or the process ends.
func (b *Broker) spool(bytes int64) (tiering.Spool, error) {
	free, err := b.dir.Free()
	if err != nil {
		return nil, fmt.Errorf("look for free space in %s: %w", b.folder.path, err)
	}
	if reserve := b.cfg.Static.Int("strata.disk.reserve.bytes"); free-bytes < reserve {
		return nil, fmt.Errorf("%d bytes are free in %s: %d are needed beside strata.disk.reserve.bytes=%d", free, b.folder.path, bytes, reserve)
	}
	f, err := os.CreateTemp(b.folder.path, spoolPrefix)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// removeSpools removes the files of a process that died between making one and taking its name away.
func (f *folder) removeSpools() error {
	names, err := filepath.Glob(filepath.Join(f.path, spoolPrefix+"*"))
	for _, name := range names {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}

// producersAt tells by an encoded producer state which batches it is made of.
func producersAt(state []byte) (compact.Producers, error) {
	if len(state) == 0 {
		return &producer.State{}, nil
	}
	return producer.Decode(state)
}
