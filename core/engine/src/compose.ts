import { provide, provideValue, type Scope } from '@vmplanes/di';
import { Hooks } from './hooks.ts';
import { Machine } from './machine.ts';
import { defaultMachineOptions, MachineOptions } from './machine-options.ts';
import { type PendingRuleName, pendingRules } from './pending.ts';
import { type SchedulerPolicyName, schedulerPolicies } from './policies.ts';
import { Arch, PendingRule, SchedulerPolicy } from './ports.ts';

/** What a machine is composed of besides its options. */
export interface EngineParts {
  readonly arch: Arch;
  /** One of the engine's policies, or a plug-in. */
  readonly policy: SchedulerPolicyName | SchedulerPolicy;
  readonly rule: PendingRuleName | ((hooks: Hooks) => PendingRule);
  readonly options?: Partial<MachineOptions>;
}

/**
 * Registers the engine of one machine in its container and resolves it there, so that VP scopes made later share it.
 * @throws {HostError} BadConfig on options out of range, NoMemory when the buffer cannot be had.
 */
export const installEngine = (scope: Scope, parts: EngineParts): Machine => {
  const hooks: Hooks = { preemption: null, trace: null };
  provideValue(scope, Hooks, hooks);
  provideValue(scope, MachineOptions, { ...defaultMachineOptions, ...parts.options });
  provideValue(scope, Arch, parts.arch);
  provideValue(scope, SchedulerPolicy, typeof parts.policy === 'string' ? new schedulerPolicies[parts.policy]() : parts.policy);
  provideValue(scope, PendingRule, typeof parts.rule === 'string' ? new pendingRules[parts.rule](hooks) : parts.rule(hooks));
  provide(scope, Machine.token, Machine);
  const machine = scope.resolve(Machine.token);
  machine.scope = scope;
  return machine;
};
