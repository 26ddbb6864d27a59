import type { Errno } from '@vmplanes/abi-kvm-planes';

/** The call returned a value. */
export interface KvmReturn {
  readonly ret: number;
}
/** The call returned -1 with this error number. */
export interface KvmFailure {
  readonly errno: Errno;
}
/**
 * The calling thread is still inside the call; the same call again continues it.
 * `blocked`: it sleeps until an event, a timer or a signal. `preempted`: its slice is used up. `busy`: another thread holds the lock it needs.
 */
export interface KvmPending {
  readonly pending: 'blocked' | 'preempted' | 'busy';
}
/** Outcome of an ioctl. Nothing that a guest or a caller passes in makes an ioctl throw. */
export type KvmResult = KvmReturn | KvmFailure | KvmPending;

/** @param value - a C int. */
export const ret = (value: number): KvmReturn => ({ ret: value });
export const OK: KvmReturn = ret(0);
export const fail = (errno: Errno): KvmFailure => ({ errno });
export const isFailure = (result: unknown): result is KvmFailure => typeof result === 'object' && result !== null && 'errno' in result;

/** Who makes a call. */
export interface Caller {
  /** Address space: a forked child has another one. */
  readonly mm: number;
  /** Thread: owner of locks and target of signals. */
  readonly thread: number;
}
