package lab

import (
	"errors"
	"io"
	"os"
	"path/filepath"
)

// filler keeps the page cache full by reading a sparse file, which needs no
// disk. A machine whose free pages went back to its host (virtual ones do that)
// writes into free memory at a tenth of the speed at which it recycles cached
// pages, so that the leg that happens to meet free memory would lose for no
// fault of its broker.
type filler struct {
	file   *os.File
	size   int64
	at     int64 // where the next pass goes on
	buffer []byte
}

// enoughFree is how much free memory a leg may find: about what the kernel keeps free by itself.
const enoughFree = 320 << 20

func newFiller(folder string) (*filler, error) {
	total, err := kilobytes("/proc/meminfo", "MemTotal")
	if err != nil {
		return nil, err
	}
	f := &filler{size: total, buffer: make([]byte, 4<<20)}
	if f.file, err = os.Create(filepath.Join(folder, "sparse")); err != nil {
		return nil, err
	}
	if err := f.file.Truncate(f.size); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

// fill reads on until little memory is free, twice the whole file at most.
func (f *filler) fill() error {
	for read := int64(0); read < 2*f.size; read += int64(len(f.buffer)) {
		if read%(64<<20) == 0 {
			free, err := kilobytes("/proc/meminfo", "MemFree")
			if err != nil || free <= enoughFree {
				return err
			}
		}
		if _, err := f.file.ReadAt(f.buffer, f.at); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if f.at += int64(len(f.buffer)); f.at >= f.size {
			f.at = 0
		}
	}
	return nil
}

func (f *filler) close() error {
	return errors.Join(f.file.Close(), os.Remove(f.file.Name()))
}
