package main

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

const listTimeout = 2 * time.Second

// inform runs a shared informer on the configmaps of a namespace, and beside it lists them again and again: once as an
// informer starts (any revision, from the API server's cache), once as kubectl does (the newest).
func inform(ctx context.Context, config *rest.Config, namespace string, every time.Duration) error {
	clientset, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	informer := coreinformers.NewConfigMapInformer(clientset, namespace, 0, cache.Indexers{})
	if err := informer.SetWatchErrorHandler(func(_ *cache.Reflector, err error) {
		say("watch-error", map[string]any{"error": err.Error()})
	}); err != nil {
		return err
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { change("added", object) },
		UpdateFunc: func(_, object any) { change("updated", object) },
		DeleteFunc: func(object any) { change("deleted", object) },
	}); err != nil {
		return err
	}
	go informer.Run(ctx.Done())
	if cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		say("synced", nil)
	}
	return list(ctx, config, namespace, every)
}

func change(what string, object any) {
	if unknown, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = unknown.Obj
	}
	if one, ok := object.(*corev1.ConfigMap); ok {
		say(what, map[string]any{"name": one.Name, "revision": one.ResourceVersion})
	}
}

func list(ctx context.Context, config *rest.Config, namespace string, every time.Duration) error {
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return err
	}
	configmaps := client.Resource(corev1.SchemeGroupVersion.WithResource("configmaps")).Namespace(namespace)
	for number := 0; ; number++ {
		options := metav1.ListOptions{}
		if number%2 == 0 {
			options.ResourceVersion = "0"
		}
		limited, cancel := context.WithTimeout(ctx, listTimeout)
		listed, err := configmaps.List(limited, options)
		cancel()
		if err != nil {
			say("list-error", map[string]any{"error": err.Error()})
		} else {
			objects := make(map[string]string, len(listed.Items))
			for _, one := range listed.Items {
				objects[one.Name] = one.ResourceVersion
			}
			say("listed", map[string]any{
				"revision": listed.ResourceVersion, "objects": objects, "newest": options.ResourceVersion == "",
			})
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every):
		}
	}
}
