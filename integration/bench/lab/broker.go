package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"
)

// Kind is which broker it is.
type Kind string

// The brokers.
const (
	Kafka  Kind = "kafka"
	Strata Kind = "strata"
)

// Setup says how a broker is started.
type Setup struct {
	Kind     Kind
	Name     string            // of its folder
	Settings map[string]string // beside those that both brokers get
	Env      []string
}

// Broker is a broker's folder, and its process while it runs.
type Broker struct {
	Setup
	*Process
	Addr string // host:port for clients

	lab    *Lab
	dir    string
	topics map[string]made
}

// made is how a topic was created.
type made struct {
	partitions int
	settings   []string
}

// ready is how long a broker may take from its start to the first answer.
const readyLimit = 5 * time.Minute

// Format makes the folder of a broker that has never run.
func (l *Lab) Format(ctx context.Context, s Setup) (*Broker, error) {
	b := &Broker{Setup: s, lab: l, dir: filepath.Join(l.Folder, s.Name), topics: map[string]made{}}
	if err := os.RemoveAll(b.dir); err != nil { // of a run that was broken off
		return nil, err
	}
	if err := os.MkdirAll(b.data(), 0o755); err != nil {
		return nil, err
	}
	addr, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	controller, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	b.Addr = addr
	var lines []string
	settings := b.settings(controller)
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		lines = append(lines, name+"="+settings[name]+"\n")
	}
	if err := os.WriteFile(b.config(), []byte(strings.Join(lines, "")), 0o644); err != nil {
		return nil, err
	}
	if s.Kind == Kafka {
		out, err := exec.CommandContext(ctx, "java", "-cp", l.KafkaLibs+"/*", "kafka.tools.StorageTool",
			"format", "-t", "c3RyYXRhLWJlbmNobWFyaw", "-c", b.config()).CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("format Kafka's storage: %w\n%s", err, out)
		}
	}
	return b, nil
}

func (b *Broker) data() string   { return filepath.Join(b.dir, "data") }
func (b *Broker) config() string { return filepath.Join(b.dir, "server.properties") }
func (b *Broker) log() string    { return filepath.Join(b.dir, "log.txt") }

// settings are the same for both, but for what only one of them has.
func (b *Broker) settings(controller string) map[string]string {
	out := map[string]string{
		"node.id": "1", "process.roles": "broker,controller", "log.dirs": b.data(),
		"listeners":                                "PLAINTEXT://" + b.Addr,
		"auto.create.topics.enable":                "false",
		"offsets.topic.replication.factor":         "1",
		"transaction.state.log.replication.factor": "1",
		"transaction.state.log.min.isr":            "1",
		// strata's defaults. Kafka's, 102400, hold the kernel to a small window, which costs it CPU.
		"socket.send.buffer.bytes":    "-1",
		"socket.receive.buffer.bytes": "-1",
		"log.segment.delete.delay.ms": "1000", // see Renew
	}
	switch b.Kind {
	case Kafka:
		out["listeners"] += ",CONTROLLER://" + controller
		out["controller.listener.names"] = "CONTROLLER"
		out["listener.security.protocol.map"] = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"
		out["controller.quorum.voters"] = "1@" + controller
	case Strata:
		out["strata.http.listen"] = ""
	}
	maps.Copy(out, b.Settings)
	return out
}

// kafkaFlags are those that Kafka's own start scripts give.
var kafkaFlags = []string{
	"-Xmx1g", "-Xms1g", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35",
	"-XX:+ExplicitGCInvokesConcurrent", "-XX:MaxInlineLevel=15", "-Djava.awt.headless=true",
}

// Launch starts the process and does not wait until it serves.
func (b *Broker) Launch() (err error) {
	switch b.Kind {
	case Kafka:
		b.Process, err = start(b.log(), b.Env, "java", append(slices.Clone(kafkaFlags), "-cp", b.lab.KafkaLibs+"/*", "kafka.Kafka", b.config())...)
	case Strata:
		b.Process, err = start(b.log(), b.Env, b.lab.Strata, "server", "--config", b.config(), "--log-level", "warn")
	}
	return err
}

// Start starts the process and waits until it takes topics.
func (b *Broker) Start(ctx context.Context) error {
	if err := b.Launch(); err != nil {
		return err
	}
	if err := b.AwaitReady(ctx); err != nil {
		b.Kill()
		return err
	}
	return nil
}

// AwaitReady waits until the broker has told about itself.
func (b *Broker) AwaitReady(ctx context.Context) error {
	err := b.admin(func(admin *kadm.Client) error {
		return poll(ctx, readyLimit, 10*time.Millisecond, func() error {
			if err := b.Err(); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			meta, err := admin.BrokerMetadata(ctx)
			if err == nil && len(meta.Brokers) != 1 {
				err = errors.New("no broker is known yet")
			}
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", b.Name, err)
	}
	return nil
}

func (b *Broker) admin(use func(*kadm.Client) error) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.RetryTimeout(2*time.Minute))
	if err != nil {
		return err
	}
	defer client.Close()
	return use(kadm.NewClient(client))
}

// CreateTopic creates a topic of one replica; settings come as "name", "value", ...
func (b *Broker) CreateTopic(ctx context.Context, topic string, partitions int, settings ...string) error {
	configs := map[string]*string{}
	for i := 0; i+1 < len(settings); i += 2 {
		configs[settings[i]] = &settings[i+1]
	}
	return b.admin(func(admin *kadm.Client) error {
		answer, err := admin.CreateTopic(ctx, int32(partitions), 1, configs, topic)
		if err := errors.Join(err, answer.Err); err != nil {
			return fmt.Errorf("create %s at %s: %w: %s", topic, b.Name, err, answer.ErrMessage)
		}
		b.topics[topic] = made{partitions, settings}
		return b.awaitTopic(ctx, admin, topic, partitions)
	})
}

// Renew makes a topic anew as it was created, once its old files are gone: what it held needs no disk any more.
func (b *Broker) Renew(ctx context.Context, topic string) error {
	was, ok := b.topics[topic]
	if !ok {
		return fmt.Errorf("renew %s at %s: it was not created there", topic, b.Name)
	}
	err := b.admin(func(admin *kadm.Client) error {
		answer, err := admin.DeleteTopic(ctx, topic)
		return errors.Join(err, answer.Err)
	})
	if err == nil {
		err = poll(ctx, deleteLimit, 50*time.Millisecond, func() error { return b.filesGone(topic) })
	}
	if err != nil {
		return fmt.Errorf("renew %s at %s: %w", topic, b.Name, err)
	}
	return b.CreateTopic(ctx, topic, was.partitions, was.settings...)
}

// deleteLimit is how long files of a deleted topic may stay: both brokers delete them behind the answer.
const deleteLimit = time.Minute

// filesGone tells whether no folder of a partition is left, not even one that is being deleted.
func (b *Broker) filesGone(topic string) error {
	entries, err := os.ReadDir(b.data())
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if folderOf(entry.Name(), topic) {
			return fmt.Errorf("%s is still there", entry.Name())
		}
	}
	return nil
}

// folderOf tells whether a folder is of one of the topic's partitions: "topic-7", or "topic-7.0f3a-delete".
func folderOf(name, topic string) bool {
	rest, ok := strings.CutPrefix(name, topic+"-")
	number, _, _ := strings.Cut(rest, ".")
	_, err := strconv.ParseUint(number, 10, 31)
	return ok && err == nil
}

// AwaitTopic waits until the broker serves each partition, as after a start:
// Kafka's metadata names it as the leader a moment before it is.
func (b *Broker) AwaitTopic(ctx context.Context, topic string, partitions int) error {
	return b.admin(func(admin *kadm.Client) error { return b.awaitTopic(ctx, admin, topic, partitions) })
}

func (b *Broker) awaitTopic(ctx context.Context, admin *kadm.Client, topic string, partitions int) error {
	return poll(ctx, readyLimit, 50*time.Millisecond, func() error {
		ends, err := admin.ListEndOffsets(ctx, topic)
		if err := errors.Join(err, ends.Error()); err != nil {
			return err
		}
		if n := len(ends[topic]); n != partitions {
			return fmt.Errorf("%s at %s: %d of %d partitions are served", topic, b.Name, n, partitions)
		}
		return nil
	})
}

// SetTopic changes one setting of a topic.
func (b *Broker) SetTopic(ctx context.Context, topic, name, value string) error {
	return b.admin(func(admin *kadm.Client) error {
		answers, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: name, Value: &value}}, topic)
		for _, answer := range answers {
			err = errors.Join(err, answer.Err)
		}
		return err
	})
}

// earliestLocal asks ListOffsets for where the local log begins (KIP-405).
const earliestLocal = -4

// AwaitTiered waits until nothing of a topic is left on the local disk.
func (b *Broker) AwaitTiered(ctx context.Context, topic string, limit time.Duration) error {
	return b.admin(func(admin *kadm.Client) error {
		return poll(ctx, limit, 200*time.Millisecond, func() error {
			ends, err := admin.ListEndOffsets(ctx, topic)
			if err := errors.Join(err, ends.Error()); err != nil {
				return err
			}
			local, err := admin.ListOffsetsAfterMilli(ctx, earliestLocal, topic)
			if err := errors.Join(err, local.Error()); err != nil {
				return err
			}
			for partition, end := range ends[topic] {
				if begin := local[topic][partition].Offset; begin != end.Offset {
					return fmt.Errorf("partition %d of %s is on the local disk from %d to %d", partition, topic, begin, end.Offset)
				}
			}
			return nil
		})
	})
}

// Evict drops the data's pages from the page cache; the files stay.
func (b *Broker) Evict() error {
	unix.Sync() // a dirty page is not dropped
	return filepath.WalkDir(b.data(), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED), file.Close())
	})
}

// Close ends the process where it runs and removes the folder. What it cached
// becomes free memory: see Lab.Fill.
func (b *Broker) Close() error {
	if b.Process != nil {
		b.Kill()
	}
	return os.RemoveAll(b.dir)
}
