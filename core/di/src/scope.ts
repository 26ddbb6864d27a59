import { container as root, type DependencyContainer, type InjectionToken } from 'tsyringe';
import { checkComponent, type ComponentClass, nameOf, type Token } from './component.ts';

/** Where services are provided and found: one per machine, and one below it per plane of a virtual processor. */
export interface Scope {
  /**
   * Finds what this scope, or the nearest scope above it, provides. Composition time only, never in a step loop.
   * @throws {Error} when nothing is provided, on a dependency cycle and after disposal.
   */
  resolve<T>(id: Token<T>): T;
  /** Tells whether this scope or one above it provides a token. */
  has(id: Token<unknown>): boolean;
}

/** The inside of a scope. */
interface State {
  readonly container: DependencyContainer;
  readonly parent: State | undefined;
  readonly scope: Scope;
  readonly children: Set<State>;
  readonly disposers: (() => void)[];
  readonly contributions: Map<symbol, unknown[]>;
  isDisposed: boolean;
}

const states = new WeakMap<Scope, State>();

const stateOf = (scope: Scope): State => {
  const state = states.get(scope);
  if (!state) throw new TypeError('not a scope made by createScope');
  if (state.isDisposed) throw new Error('the scope is disposed');
  return state;
};

/**
 * Makes a scope. Without a parent it shares nothing with any other scope.
 * @param parent - its provisions are visible in the new scope and may be provided differently there.
 */
export function createScope(parent?: Scope): Scope {
  const above = parent && stateOf(parent);
  const container = (above?.container ?? root).createChildContainer();
  const scope: Scope = Object.freeze({
    resolve<T>(id: Token<T>): T {
      stateOf(scope);
      if (!container.isRegistered(id, true)) throw new Error(`${nameOf(id)}: not provided in this scope or above it`);
      return container.resolve<T>(id);
    },
    has(id: Token<unknown>): boolean {
      stateOf(scope);
      return container.isRegistered(id, true);
    },
  });
  const state: State = { container, parent: above, scope, children: new Set(), disposers: [], contributions: new Map(), isDisposed: false };
  states.set(scope, state);
  above?.children.add(state);
  return scope;
}

const register = <T>(scope: Scope, id: Token<T>, make: () => T): void => {
  const { container } = stateOf(scope);
  if (container.isRegistered(id)) throw new Error(`${nameOf(id)}: provided twice in one scope`);
  container.register<T>(id, { useFactory: make });
};

/**
 * Provides one instance per `scope`, made at first use and shared with the scopes below. Its dependencies come from `scope` itself,
 * so an instance first asked for below never captures what only the scope below provides. An instance with a method `dispose` is
 * disposed with the scope.
 * @throws {TypeError} when the class was not marked by `component`.
 * @throws {Error} when the scope itself provides the token already.
 */
export function provide<T extends object>(scope: Scope, id: Token<T>, use: ComponentClass<T>): void {
  checkComponent(use);
  provideFactory(scope, id, () => stateOf(scope).container.resolve(use as InjectionToken<T>));
}

/** Provides what `make` returns, under the rules of {@link provide}. */
export function provideFactory<T>(scope: Scope, id: Token<T>, make: (scope: Scope) => T): void {
  let built: { readonly value: T } | undefined;
  let isBuilding = false;
  register(scope, id, () => {
    if (built) return built.value;
    if (isBuilding) throw new Error(`${nameOf(id)}: depends on itself`);
    isBuilding = true;
    try {
      const value = make(scope);
      built = { value };
      if (isDisposable(value)) onDispose(scope, () => value.dispose());
      return value;
    } finally {
      isBuilding = false;
    }
  });
}

/** Provides a value that exists already. The scope does not own it: it is not disposed. @throws {Error} as {@link provide}. */
export function provideValue<T>(scope: Scope, id: Token<T>, value: T): void {
  register(scope, id, () => value);
}

/** Adds one of several values under a token; scopes below see it too. */
export function contribute<T>(scope: Scope, id: Token<T>, value: T): void {
  const { contributions } = stateOf(scope);
  const list = contributions.get(id);
  if (list) list.push(value);
  else contributions.set(id, [value]);
}

/** All values contributed under a token, those of scopes above first, each scope's in order. */
export function contributionsTo<T>(scope: Scope, id: Token<T>): readonly T[] {
  const all: T[] = [];
  for (let state: State | undefined = stateOf(scope); state; state = state.parent) all.unshift(...((state.contributions.get(id) ?? []) as T[]));
  return all;
}

/** Registers work for the end of a scope. */
export function onDispose(scope: Scope, disposer: () => void): void {
  stateOf(scope).disposers.push(disposer);
}

/**
 * Ends a scope: first the scopes below it, youngest first, then its own disposers in reverse order. A scope ends once; a second call does nothing.
 * @throws {AggregateError} after all disposers ran, with what they threw.
 */
export function disposeScope(scope: Scope): void {
  const state = states.get(scope);
  if (!state || state.isDisposed) return;
  const errors: unknown[] = [];
  end(state, errors);
  if (errors.length > 0) throw new AggregateError(errors, `${errors.length} disposers failed`);
}

function end(state: State, errors: unknown[]): void {
  for (const child of [...state.children].reverse()) end(child, errors);
  for (let disposer = state.disposers.pop(); disposer; disposer = state.disposers.pop()) {
    try {
      disposer();
    } catch (error) {
      errors.push(error);
    }
  }
  state.isDisposed = true;
  state.parent?.children.delete(state);
  state.container.clearInstances();
}

const isDisposable = (value: unknown): value is { dispose(): void } =>
  typeof value === 'object' && value !== null && 'dispose' in value && typeof value.dispose === 'function';
