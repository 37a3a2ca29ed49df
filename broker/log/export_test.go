package log

import "github.com/stratabroker/strata/broker/producer"

// ProducerState is a copy of the log's producer state.
func (l *Log) ProducerState() *producer.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.producers.Clone()
}

// OpenFiles is the number of cached file handles.
func (d *Dir) OpenFiles() int { return d.handles.len() }

// Parsers of the checkpoint files, for tables and fuzzing.
var (
	ParseOffsets   = parseOffsets
	EncodeOffsets  = encodeOffsets
	ParseEpochs    = parseEpochs
	EncodeEpochs   = encodeEpochs
	ParseMetadata  = parseMetadata
	EncodeMetadata = encodeMetadata
	ParseClean     = parseClean
	EncodeClean    = encodeClean
	ParseBoots     = parseBoots
	EncodeBoots    = encodeBoots
	ParseFileName  = parseFileName
	ParseDirName   = parseDirName
)
