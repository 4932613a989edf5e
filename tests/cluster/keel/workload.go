package main

import (
	"context"
	"regexp"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
)

// workload is one object of the cache, of any of the four kinds.
type workload struct {
	kind   string
	object runtime.Object // a copy of the cached one
}

func (w workload) meta() *metav1.ObjectMeta {
	switch o := w.object.(type) {
	case *appsv1.Deployment:
		return &o.ObjectMeta
	case *appsv1.StatefulSet:
		return &o.ObjectMeta
	case *appsv1.DaemonSet:
		return &o.ObjectMeta
	case *batchv1.CronJob:
		return &o.ObjectMeta
	}
	return nil
}

func (w workload) pod() *corev1.PodSpec {
	switch o := w.object.(type) {
	case *appsv1.Deployment:
		return &o.Spec.Template.Spec
	case *appsv1.StatefulSet:
		return &o.Spec.Template.Spec
	case *appsv1.DaemonSet:
		return &o.Spec.Template.Spec
	case *batchv1.CronJob:
		return &o.Spec.JobTemplate.Spec.Template.Spec
	}
	return nil
}

// template is where keel.sh/update-time goes: for a CronJob that is the metadata of its jobTemplate.
func (w workload) template() *metav1.ObjectMeta {
	switch o := w.object.(type) {
	case *appsv1.Deployment:
		return &o.Spec.Template.ObjectMeta
	case *appsv1.StatefulSet:
		return &o.Spec.Template.ObjectMeta
	case *appsv1.DaemonSet:
		return &o.Spec.Template.ObjectMeta
	case *batchv1.CronJob:
		return &o.Spec.JobTemplate.ObjectMeta
	}
	return nil
}

// pods asks the API server for those of the workload; a CronJob has none of its own.
func (w workload) pods(client kubernetes.Interface) []corev1.Pod {
	var selector *metav1.LabelSelector
	switch o := w.object.(type) {
	case *appsv1.Deployment:
		selector = o.Spec.Selector
	case *appsv1.StatefulSet:
		selector = o.Spec.Selector
	case *appsv1.DaemonSet:
		selector = o.Spec.Selector
	}
	if selector == nil {
		return nil
	}
	list, err := client.CoreV1().Pods(w.meta().Namespace).List(context.Background(),
		metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(selector)})
	if err != nil {
		return nil
	}
	return list.Items
}

func (w workload) identifier() string { return w.kind + "/" + w.meta().Namespace + "/" + w.meta().Name }

func anyCase(m map[string]string, key string) (string, bool) {
	for k, v := range m {
		if strings.EqualFold(k, key) {
			return v, true
		}
	}
	return "", false
}

// monitored tells which containers the annotations, or else the labels, are about.
func (w workload) monitored() func(name string) bool {
	for _, m := range []map[string]string{w.meta().Annotations, w.meta().Labels} {
		if text, ok := anyCase(m, "keel.sh/monitorContainers"); ok {
			if e, err := regexp.Compile(text); err == nil {
				return e.MatchString
			}
		}
	}
	return func(string) bool { return true }
}

// containers are those that an update is about; init containers only for the exact annotation.
func (w workload) containers() []*corev1.Container {
	var list []*corev1.Container
	monitored, pod := w.monitored(), w.pod()
	if w.meta().Annotations["keel.sh/initContainers"] == "true" {
		for i := range pod.InitContainers {
			list = append(list, &pod.InitContainers[i])
		}
	}
	for i := range pod.Containers {
		list = append(list, &pod.Containers[i])
	}
	kept := list[:0]
	for _, c := range list {
		if monitored(c.Name) {
			kept = append(kept, c)
		}
	}
	return kept
}

func (w workload) trigger() string {
	if v, ok := w.meta().Annotations["keel.sh/trigger"]; ok {
		return v
	}
	return w.meta().Labels["keel.sh/trigger"]
}

// put replaces the whole object by the cached one with its changes. A 409 is an error like any other.
func (w workload) put(client kubernetes.Interface) error {
	ctx, options := context.Background(), metav1.UpdateOptions{FieldManager: "keel"}
	var err error
	switch o := w.object.(type) {
	case *appsv1.Deployment:
		_, err = client.AppsV1().Deployments(o.Namespace).Update(ctx, o, options)
	case *appsv1.StatefulSet:
		_, err = client.AppsV1().StatefulSets(o.Namespace).Update(ctx, o, options)
	case *appsv1.DaemonSet:
		_, err = client.AppsV1().DaemonSets(o.Namespace).Update(ctx, o, options)
	case *batchv1.CronJob:
		_, err = client.BatchV1().CronJobs(o.Namespace).Update(ctx, o, options)
	}
	return err
}
