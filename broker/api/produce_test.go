package api_test

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/broker/api"
	"github.com/stratabroker/strata/broker/replica"
	"github.com/stratabroker/strata/broker/server"
	"github.com/stratabroker/strata/protocol"
)

const produceVersion = 11

func decode(t *testing.T, r server.Response) *kmsg.ProduceResponse {
	t.Helper()
	var body bytes.Buffer
	for _, p := range r.Parts {
		if _, err := p.WriteTo(&body); err != nil {
			t.Fatal(err)
		}
	}
	resp := kmsg.NewPtrProduceResponse()
	resp.SetVersion(produceVersion)
	if err := resp.ReadFrom(body.Bytes()); err != nil {
		t.Fatal(err)
	}
	return resp
}

func request(reply func(server.Response)) *server.Request {
	return server.NewRequest(&server.Conn{}, protocol.RequestHeader{Key: protocol.KeyProduce, Version: produceVersion}, nil, nil, reply)
}

func TestAProduceIsAnsweredOnceItsTimeoutIsOverAndNeverTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var replies []server.Response
		answer := api.Produce(request(func(r server.Response) { replies = append(replies, r) }), replica.AcksAll, 2, time.Second)
		answer[1](replica.Appended{First: 7}, nil)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(replies) != 1 {
			t.Fatalf("%d replies after the timeout", len(replies))
		}
		got := decode(t, replies[0]).Topics[0].Partitions
		if got[0].ErrorCode != kerr.RequestTimedOut.Code || got[0].BaseOffset != -1 || got[1].ErrorCode != 0 || got[1].BaseOffset != 7 {
			t.Errorf("%+v", got)
		}
		answer[0](replica.Appended{First: 8}, nil)
		if len(replies) != 1 {
			t.Errorf("%d replies after the late acknowledgement", len(replies))
		}
	})
}

func TestAProduceIsAnsweredByItsLastAcknowledgement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var replies []server.Response
		answer := api.Produce(request(func(r server.Response) { replies = append(replies, r) }), replica.AcksAll, 2, time.Second)
		answer[1](replica.Appended{First: 7}, nil)
		answer[0](replica.Appended{}, protocol.Errorf(kerr.NotEnoughReplicas, "x"))
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(replies) != 1 {
			t.Fatalf("%d replies", len(replies))
		}
		got := decode(t, replies[0]).Topics[0].Partitions
		if got[0].ErrorCode != kerr.NotEnoughReplicas.Code || got[1].ErrorCode != 0 {
			t.Errorf("%+v", got)
		}
	})
}

func TestAFailedProduceWithoutAcksClosesTheConnection(t *testing.T) {
	var replies []server.Response
	answer := api.Produce(request(func(r server.Response) { replies = append(replies, r) }), replica.AcksNone, 1, time.Second)
	answer[0](replica.Appended{}, protocol.Errorf(kerr.MessageTooLarge, "x"))
	if len(replies) != 1 || !replies[0].NoReply || replies[0].Close == nil {
		t.Errorf("%+v", replies)
	}
}
