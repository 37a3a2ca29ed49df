package minio

// AwaitBuckets lets a test have it wait for a server of its own.
var AwaitBuckets = (*Server).awaitBuckets
