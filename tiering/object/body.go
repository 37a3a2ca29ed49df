package object

import (
	"errors"
	"fmt"
	"io"
)

// Section is the first size bytes of a body, read from its start. A body that
// ends before is an io.ErrUnexpectedEOF.
type Section struct {
	body io.ReadSeeker
	size int64
	at   int64
	err  error // of the first seek
}

// NewSection seeks body to its start; an error of that comes with the first Read.
func NewSection(body io.ReadSeeker, size int64) *Section {
	s := &Section{body: body, size: size}
	_, s.err = s.Seek(0, io.SeekStart)
	return s
}

// Read implements io.Reader.
func (s *Section) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	if s.at >= s.size {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), s.size-s.at)]
	n, err := s.body.Read(p)
	s.at += int64(n)
	if errors.Is(err, io.EOF) { // of the body: the section has its own
		err = nil
		if s.at < s.size {
			err = io.ErrUnexpectedEOF
		}
	}
	return n, err
}

// Seek implements io.Seeker, relative to the section's end too.
func (s *Section) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += s.at
	case io.SeekEnd:
		offset += s.size
	}
	at, err := s.body.Seek(offset, io.SeekStart)
	if err != nil {
		return 0, fmt.Errorf("seek in the body: %w", err)
	}
	s.at = at
	return at, nil
}
