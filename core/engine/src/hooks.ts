import { type Token, token } from '@vmplanes/di';
import type { PreemptionPort, TracePort } from './ports.ts';

/** The nullable ports of one machine: absent in products but for the trace, so that each costs one null test. */
export interface Hooks {
  preemption: PreemptionPort | null;
  trace: TracePort | null;
}
export const Hooks: Token<Hooks> = token<Hooks>('Hooks');
