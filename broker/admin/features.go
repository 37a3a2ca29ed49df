package admin

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// UpdateKind says what a change of a feature's level is meant to be, by its number on the wire.
type UpdateKind int8

// Kinds of KIP-778.
const (
	Upgrade UpdateKind = iota + 1
	SafeDowngrade
	UnsafeDowngrade
)

// FeatureUpdate asks for a level of a feature; 0 takes the feature away.
type FeatureUpdate struct {
	Feature string
	Level   int16
	Kind    UpdateKind
}

// UpdateFeatures makes all updates or none. This binary applies one level of
// strata.version, that of the image, so an update that is allowed changes nothing.
func (a *Admin) UpdateFeatures(_ context.Context, updates []FeatureUpdate, _ bool) error {
	img := a.Image()
	for _, u := range updates {
		if why := a.cannotUpdate(u, int16(img.Version())); why != "" {
			return protocol.Errorf(kerr.InvalidUpdateVersion, "Invalid update version %d for feature %s. %s", u.Level, u.Feature, why)
		}
	}
	return nil
}

// cannotUpdate tells, in Kafka's words and order, why an update is not allowed; "" where it is.
func (a *Admin) cannotUpdate(u FeatureUpdate, finalised int16) string {
	switch {
	case u.Kind < Upgrade || u.Kind > UnsafeDowngrade:
		return "The controller does not support the given upgrade type."
	case u.Level < 0:
		return "A feature version cannot be less than 0."
	case u.Feature != metadata.VersionFeature && u.Level == 0:
		return fmt.Sprintf("Feature %s not found.", u.Feature)
	case u.Feature != metadata.VersionFeature:
		return fmt.Sprintf("Local controller %d does not support this feature.", a.cfg.Self)
	case u.Level < int16(metadata.MinVersion) || u.Level > int16(metadata.MaxVersion):
		return fmt.Sprintf("Local controller %d only supports versions %d-%d", a.cfg.Self, metadata.MinVersion, metadata.MaxVersion)
	case u.Level < finalised && u.Kind == Upgrade:
		return "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe downgrade."
	case u.Level > finalised && u.Kind != Upgrade:
		return "Can't downgrade to a newer version."
	}
	return ""
}
