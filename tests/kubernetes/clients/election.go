package main

import (
	"context"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// elect runs candidates for one Lease, as controllers do, each again when it has lost.
func elect(
	ctx context.Context, config *rest.Config, namespace string, identities []string, lease, renew, retry time.Duration,
) error {
	clientset, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	for _, identity := range identities {
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: &resourcelock.LeaseLock{
				LeaseMeta:  metav1.ObjectMeta{Namespace: namespace, Name: "holder"},
				Client:     clientset.CoordinationV1(),
				LockConfig: resourcelock.ResourceLockConfig{Identity: identity},
			},
			LeaseDuration: lease,
			RenewDeadline: renew,
			RetryPeriod:   retry,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(context.Context) { say("started", map[string]any{"identity": identity}) },
				OnStoppedLeading: func() {},
				OnNewLeader: func(holder string) {
					say("observed", map[string]any{"identity": identity, "holder": holder})
				},
			},
		})
		if err != nil {
			return err
		}
		all.Add(1)
		go func() {
			defer all.Done()
			for ctx.Err() == nil {
				elector.Run(ctx) // also calls OnStoppedLeading where it never led
				say("stopped", map[string]any{"identity": identity})
			}
		}()
	}
	all.Wait()
	return nil
}
