export type { LaunchPage, LaunchSink, LaunchVp } from './launch-sink.ts';
