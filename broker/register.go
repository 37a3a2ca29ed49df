package broker

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/metadata/metadatapb"
)

// endpoints are the advertised addresses, with the bound port and this
// machine's name where the setting leaves them open.
func (b *Broker) endpoints() []metadata.Listener {
	advertised, err := b.cfg.Static.Advertised()
	if err != nil {
		return nil // Validate has passed it
	}
	for i := range advertised {
		l := &advertised[i]
		for _, bound := range b.bound {
			if addr, ok := bound.Net.Addr().(*net.TCPAddr); ok && bound.Name == l.Name && l.Port == 0 {
				l.Port = uint16(addr.Port)
			}
		}
		if l.Host == "" {
			l.Host = hostName()
		}
	}
	return advertised
}

func hostName() string {
	if name, err := os.Hostname(); err == nil {
		return name
	}
	return "localhost"
}

// register gives this process its broker epoch, fenced until it serves. After
// a stop that was not clean the leader epochs of all it leads are raised by
// the same command, so that no epoch has two histories (DESIGN D12).
func (b *Broker) register(ctx context.Context) error {
	var incarnation metadata.Incarnation
	_, _ = rand.Read(incarnation[:]) // crypto/rand never fails
	previous := b.folder.brokerEpoch()
	cmd := &metadatapb.RegisterBroker{
		Broker: int32(b.self()), Incarnation: incarnation[:], Directories: [][]byte{b.folder.id[:]}, Rack: b.cfg.Static.String("broker.rack"),
		MinVersion: strataVersion, MaxVersion: strataVersion, PreviousEpoch: int64(previous),
		Unclean: !b.dir.Clean() || b.dir.CleanBrokerEpoch() != previous,
	}
	for _, l := range b.endpoints() {
		cmd.Listeners = append(cmd.Listeners, &metadatapb.Listener{Name: l.Name, Protocol: l.Protocol, Host: l.Host, Port: uint32(l.Port)})
	}
	result, err := b.node.Propose(ctx, &metadata.Command{Kind: &metadatapb.Command_RegisterBroker{RegisterBroker: cmd}})
	if err != nil {
		return fmt.Errorf("register broker %d: %w", b.self(), err)
	}
	if err := b.folder.setBrokerEpoch(result.BrokerEpoch); err != nil {
		return fmt.Errorf("record the broker epoch: %w", err)
	}
	b.epoch.Store(int64(result.BrokerEpoch))
	b.dir.SetBrokerEpoch(result.BrokerEpoch)
	return nil
}

func (b *Broker) unfence(ctx context.Context) error {
	cmd := &metadatapb.SetBrokerFencing{Broker: int32(b.self()), BrokerEpoch: b.epoch.Load()}
	_, err := b.node.Propose(ctx, &metadata.Command{Kind: &metadatapb.Command_SetBrokerFencing{SetBrokerFencing: cmd}})
	if err != nil {
		return fmt.Errorf("unfence broker %d: %w", b.self(), err)
	}
	return nil
}

// isController tells whether this broker leads the quorum.
func (b *Broker) isController() bool { return b.node.Leader() == b.self() && b.node.IsLeader() }
