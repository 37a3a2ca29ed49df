// Sarama against a broker: sarama BROKER TOPIC GROUP, a line for each step.
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/IBM/sarama"
)

const (
	each     = 10 // records of a codec
	limit    = time.Minute
	tooLarge = 1_200_000
)

var codecs = []sarama.CompressionCodec{
	sarama.CompressionNone, sarama.CompressionGZIP, sarama.CompressionSnappy, sarama.CompressionLZ4, sarama.CompressionZSTD,
}

type matrix struct {
	broker, topic, group string
	admin                sarama.ClusterAdmin
}

func say(step string, result any) { fmt.Printf("%s: %v\n", step, result) }

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// code is the error code of an answer; what is none ends the program.
func code(err error) int16 {
	var kafka sarama.KError
	if err != nil && !errors.As(err, &kafka) {
		log.Fatal(err)
	}
	return int16(kafka)
}

func config() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.V3_6_0_0
	c.Producer.Return.Successes = true
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Offsets.AutoCommit.Enable = false
	c.Consumer.Group.Session.Timeout = 30 * time.Second
	c.Consumer.Group.Heartbeat.Interval = 200 * time.Millisecond
	return c
}

func main() {
	m := &matrix{broker: os.Args[1], topic: os.Args[2], group: os.Args[3]}
	var err error
	m.admin, err = sarama.NewClusterAdmin([]string{m.broker}, config())
	must(err)
	create := func() int16 {
		return code(m.admin.CreateTopic(m.topic, &sarama.TopicDetail{NumPartitions: 2, ReplicationFactor: 1}, false))
	}
	say("create", create())
	say("create again", create())
	m.produce()
	m.consume()
	m.groups()
	m.records()
	m.settings()
	m.deletions()
	must(m.admin.Close())
}

func (m *matrix) produce() {
	for i, codec := range codecs {
		c := config()
		c.Producer.Compression, c.Producer.Idempotent, c.Net.MaxOpenRequests = codec, true, 1
		p, err := sarama.NewSyncProducer([]string{m.broker}, c)
		must(err)
		var messages []*sarama.ProducerMessage
		for n := i * each; n < (i+1)*each; n++ {
			messages = append(messages, &sarama.ProducerMessage{
				Topic: m.topic, Key: sarama.StringEncoder("k" + strconv.Itoa(n)),
				Value:   sarama.StringEncoder(fmt.Sprintf("%s %d %s", codec, n, strings.Repeat("x", 200))),
				Headers: []sarama.RecordHeader{{Key: []byte("codec"), Value: []byte(codec.String())}},
			})
		}
		must(p.SendMessages(messages))
		say("produce "+codec.String(), fmt.Sprintf("%d-%d", messages[0].Offset, messages[each-1].Offset))
		must(p.Close())
	}
}

func (m *matrix) consume() {
	c, err := sarama.NewConsumer([]string{m.broker}, config())
	must(err)
	part, err := c.ConsumePartition(m.topic, 0, 0)
	must(err)
	sum, count := sha256.New(), len(codecs)*each
	for range count {
		r := next(part.Messages())
		fmt.Fprintf(sum, "%d %s %s", r.Offset, r.Key, r.Value)
		for _, h := range r.Headers {
			fmt.Fprintf(sum, " %s=%s", h.Key, h.Value)
		}
		fmt.Fprintln(sum)
	}
	say("consume", fmt.Sprintf("%d %x", count, sum.Sum(nil)))
	must(c.Close())
}

func next(messages <-chan *sarama.ConsumerMessage) *sarama.ConsumerMessage {
	select {
	case r := <-messages:
		return r
	case <-time.After(limit):
		log.Fatal("no record in time")
		return nil
	}
}

// member is one of the group; it tells each assignment, and takes what is to be committed.
type member struct {
	m        *matrix
	client   sarama.ConsumerGroup
	cancel   context.CancelFunc
	ended    chan struct{}
	assigned chan int
	commit   chan int64
	done     chan struct{} // after a commit
	first    chan int64    // offset of the first record of partition 0
}

func (m *matrix) join() *member {
	client, err := sarama.NewConsumerGroup([]string{m.broker}, m.group, config())
	must(err)
	ctx, cancel := context.WithCancel(context.Background())
	b := &member{
		m: m, client: client, cancel: cancel, ended: make(chan struct{}), assigned: make(chan int, 100),
		commit: make(chan int64), done: make(chan struct{}), first: make(chan int64, 100),
	}
	go func() {
		defer close(b.ended)
		for ctx.Err() == nil {
			if err := client.Consume(ctx, []string{m.topic}, b); err != nil && ctx.Err() == nil {
				log.Fatal(err)
			}
		}
	}()
	return b
}

// Setup implements sarama.ConsumerGroupHandler.
func (b *member) Setup(s sarama.ConsumerGroupSession) error {
	b.assigned <- len(s.Claims()[b.m.topic])
	return nil
}

// Cleanup implements sarama.ConsumerGroupHandler.
func (b *member) Cleanup(sarama.ConsumerGroupSession) error { return nil }

// ConsumeClaim implements sarama.ConsumerGroupHandler.
func (b *member) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	if claim.Partition() != 0 {
		<-s.Context().Done()
		return nil
	}
	for {
		select {
		case r, ok := <-claim.Messages():
			if !ok {
				return nil
			}
			select {
			case b.first <- r.Offset:
			default:
			}
		case at := <-b.commit:
			s.MarkOffset(b.m.topic, 0, at, "")
			s.Commit()
			b.done <- struct{}{}
		case <-s.Context().Done():
			return nil
		}
	}
}

// has waits until the member has so many partitions.
func (b *member) has(count int) {
	for end := time.After(limit); ; {
		select {
		case n := <-b.assigned:
			if n == count {
				return
			}
		case <-end:
			log.Fatalf("no assignment of %d partitions in time", count)
		}
	}
}

func (b *member) leave() {
	b.cancel()
	<-b.ended
	must(b.client.Close())
}

func (m *matrix) groups() {
	a := m.join()
	a.has(2)
	b := m.join()
	a.has(1)
	b.has(1)
	say("two members", "1 and 1 partitions")
	b.leave()
	a.has(2)
	say("one is left", "2 partitions")
	described, err := m.admin.DescribeConsumerGroups([]string{m.group})
	must(err)
	say("describe group", fmt.Sprintf("%s, %d member", strings.ToLower(described[0].State), len(described[0].Members)))
	a.commit <- 20
	<-a.done
	a.leave()
	groups, err := m.admin.ListConsumerGroups()
	must(err)
	if _, ok := groups[m.group]; ok {
		say("list groups", "True")
	}
	offsets, err := m.admin.ListConsumerGroupOffsets(m.group, map[string][]int32{m.topic: {0}})
	must(err)
	say("committed", offsets.GetBlock(m.topic, 0).Offset)
	c := m.join()
	select {
	case at := <-c.first:
		say("resumed at", at)
	case <-time.After(limit):
		log.Fatal("no record after the commit in time")
	}
	c.leave()
}

func (m *matrix) records() {
	must(m.admin.DeleteRecords(m.topic, map[int32]int64{0: 5}))
	client, err := sarama.NewClient([]string{m.broker}, config())
	must(err)
	start, err := client.GetOffset(m.topic, 0, sarama.OffsetOldest)
	must(err)
	say("delete records", start)
	// Sarama leaves the reset to its caller.
	c, err := sarama.NewConsumerFromClient(client)
	must(err)
	if _, err := c.ConsumePartition(m.topic, 0, 1); !errors.Is(err, sarama.ErrOffsetOutOfRange) {
		log.Fatalf("an offset below the log start: %v", err)
	}
	part, err := c.ConsumePartition(m.topic, 0, sarama.OffsetOldest)
	must(err)
	say("bad offset resets to", next(part.Messages()).Offset)
	must(c.Close())
	must(client.Close())
}

func (m *matrix) settings() {
	value := "7777777"
	say("alter config", code(m.admin.IncrementalAlterConfig(sarama.TopicResource, m.topic, map[string]sarama.IncrementalAlterConfigsEntry{
		"retention.ms": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value},
	}, false)))
	entries, err := m.admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: m.topic, ConfigNames: []string{"retention.ms"}})
	must(err)
	say("config", entries[0].Value)
	say("add partitions", code(m.admin.CreatePartitions(m.topic, 3, nil, false)))
	topics, err := m.admin.DescribeTopics([]string{m.topic})
	must(err)
	say("partitions", len(topics[0].Partitions))
}

func (m *matrix) deletions() {
	c := config()
	c.Producer.MaxMessageBytes = 3_000_000
	p, err := sarama.NewSyncProducer([]string{m.broker}, c)
	must(err)
	_, _, err = p.SendMessage(&sarama.ProducerMessage{Topic: m.topic, Value: sarama.ByteEncoder(make([]byte, tooLarge))})
	say("too large", code(err))
	must(p.Close())
	say("unknown topic", code(m.admin.DeleteTopic(m.topic+"-none")))
	say("delete group", code(m.admin.DeleteConsumerGroup(m.group)))
	say("delete unknown group", code(m.admin.DeleteConsumerGroup(m.group)))
	say("delete topic", code(m.admin.DeleteTopic(m.topic)))
}
