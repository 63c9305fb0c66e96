package main

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	dialTimeout  = 20 * time.Second // as the API server has them
	keepAlive    = 30 * time.Second
	keepAliveFor = 10 * time.Second
	requestLimit = 2 * time.Second
	pause        = 20 * time.Millisecond
)

// watch lists once and watches from there, across every reconnect that the client makes by itself. It lists anew only where
// it is told that the rest is compacted.
func watch(ctx context.Context, endpoint, prefix string) error {
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            []string{endpoint},
		DialTimeout:          dialTimeout,
		DialKeepAliveTime:    keepAlive,
		DialKeepAliveTimeout: keepAliveFor,
	})
	if err != nil {
		return err
	}
	defer client.Close()
	var next int64
	for ctx.Err() == nil {
		if next == 0 {
			next = listKeys(ctx, client, prefix)
		}
		if next != 0 {
			next = follow(ctx, client, prefix, next)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return nil
}

// listKeys returns the revision to watch from, 0 where the list failed.
func listKeys(ctx context.Context, client *clientv3.Client, prefix string) int64 {
	limited, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	listed, err := client.Get(limited, prefix, clientv3.WithPrefix())
	if err != nil {
		say("list-error", map[string]any{"error": err.Error()})
		return 0
	}
	keys := make(map[string]int64, len(listed.Kvs))
	for _, one := range listed.Kvs {
		keys[string(one.Key)] = one.ModRevision
	}
	say("listed", map[string]any{"revision": listed.Header.Revision, "keys": keys})
	return listed.Header.Revision + 1
}

// follow returns the revision to watch from after the watch has ended, 0 where a list must come before.
func follow(ctx context.Context, client *clientv3.Client, prefix string, next int64) int64 {
	limited, cancel := context.WithCancel(ctx)
	defer cancel()
	for answer := range client.Watch(limited, prefix, clientv3.WithPrefix(), clientv3.WithRev(next)) {
		if answer.CompactRevision != 0 {
			say("compacted", map[string]any{"revision": answer.CompactRevision})
			return 0
		}
		if err := answer.Err(); err != nil {
			say("watch-error", map[string]any{"error": err.Error()})
			return next
		}
		for _, event := range answer.Events {
			say("event", map[string]any{
				"deleted": event.Type == clientv3.EventTypeDelete,
				"key":     string(event.Kv.Key), "revision": event.Kv.ModRevision,
			})
			next = max(next, event.Kv.ModRevision+1)
		}
	}
	return next
}
