package s3_test

import (
	"testing"

	"github.com/stratabroker/strata/tiering/object"
	"github.com/stratabroker/strata/tiering/object/objecttest"
	"github.com/stratabroker/strata/tiering/object/s3"
)

func TestAnswersOfTheWireMeanWhatTheyShould(t *testing.T) {
	objecttest.RunWire(t, func(t *testing.T, endpoint string) object.Store {
		t.Helper()
		u := object.URL{Scheme: object.SchemeS3, Bucket: "bucket", Prefix: "p", Endpoint: endpoint, Region: "us-east-1", PathStyle: true}
		s, err := s3.New(t.Context(), u, s3.Options{AccessKey: "key", SecretKey: "secret"})
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}
