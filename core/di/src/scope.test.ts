import { describe, expect, expectTypeOf, it } from 'vitest';
import { component, inject, token } from './component.ts';
import { contribute, contributionsTo, createScope, disposeScope, onDispose, provide, provideFactory, provideValue } from './scope.ts';

interface Clock {
  readonly now: number;
}
const Clock = token<Clock>('Clock');
const Name = token<string>('Name');
interface Greeter {
  readonly text: string;
}
const Greeter = token<Greeter>('Greeter');

@component()
class FixedClock implements Clock {
  readonly now = 7;
}
@component()
class NamedGreeter implements Greeter {
  readonly text: string;
  constructor(@inject(Name) name: string, @inject(Clock) clock: Clock) {
    this.text = `${name} at ${clock.now}`;
  }
}

const vm = (name: string): ReturnType<typeof createScope> => {
  const scope = createScope();
  provideValue(scope, Name, name);
  provide(scope, Clock, FixedClock);
  provide(scope, Greeter, NamedGreeter);
  return scope;
};

describe('scope', () => {
  it('constructs with what it provides', () => {
    const greeter = vm('vm0').resolve(Greeter);
    expect(greeter.text).toBe('vm0 at 7');
    expectTypeOf(greeter).toEqualTypeOf<Greeter>();
  });

  it('keeps one instance, shared with the scopes below', () => {
    const scope = vm('vm0');
    const child = createScope(createScope(scope));
    expect(child.resolve(Clock)).toBe(scope.resolve(Clock));
    expect(createScope(scope).resolve(Clock)).toBe(scope.resolve(Clock));
    expect(child.has(Clock)).toBe(true);
  });

  it('shares nothing between machines', () => {
    const [a, b] = [vm('a'), vm('b')];
    expect(a.resolve(Clock)).not.toBe(b.resolve(Clock));
    expect([a.resolve(Greeter).text, b.resolve(Greeter).text]).toEqual(['a at 7', 'b at 7']);
    expect(createScope().has(Clock)).toBe(false);
  });

  it('a scope below may provide differently, unseen above', () => {
    const scope = vm('vm0');
    const child = createScope(scope);
    provideValue(child, Clock, { now: 9 });
    provide(child, Greeter, NamedGreeter);
    expect([scope.resolve(Greeter).text, child.resolve(Greeter).text]).toEqual(['vm0 at 7', 'vm0 at 9']);
  });

  it('an instance first asked for below takes its dependencies from its own scope', () => {
    const scope = vm('vm0');
    const child = createScope(scope);
    provideValue(child, Name, 'plane 1');
    expect(child.resolve(Greeter).text).toBe('vm0 at 7');
    expect(child.resolve(Greeter)).toBe(scope.resolve(Greeter));
  });

  it('calls a factory once', () => {
    const scope = createScope();
    let calls = 0;
    provideFactory(scope, Clock, (s) => {
      expect(s).toBe(scope);
      return { now: ++calls };
    });
    expect([createScope(scope).resolve(Clock).now, scope.resolve(Clock).now]).toEqual([1, 1]);
  });

  it('collects contributions through all scopes above', () => {
    const scope = createScope();
    const child = createScope(scope);
    contribute(scope, Name, 'a');
    contribute(child, Name, 'c');
    contribute(scope, Name, 'b');
    expect(contributionsTo(child, Name)).toEqual(['a', 'b', 'c']);
    expect(contributionsTo(scope, Name)).toEqual(['a', 'b']);
    expect(contributionsTo(scope, Clock)).toEqual([]);
  });

  const Left = token<object>('Left');
  const Right = token<object>('Right');
  @component()
  class LeftHand {
    constructor(@inject(Right) readonly other: object) {}
  }
  @component()
  class RightHand {
    constructor(@inject(Left) readonly other: object) {}
  }
  class Plain {}

  it.each<[string, () => unknown, RegExp]>([
    ['what is not provided', () => createScope().resolve(Clock), /^Clock: not provided in this scope or above it$/],
    ['a dependency that is not provided', () => {
      const scope = createScope();
      provide(scope, Greeter, NamedGreeter);
      scope.resolve(Greeter);
    }, /Name/],
    ['a second provision in one scope', () => provideValue(vm('x'), Name, 'y'), /^Name: provided twice in one scope$/],
    ['a class that is no component', () => provide(createScope(), Left, Plain), /^Plain: has no @component\(\)$/],
    ['a dependency cycle', () => {
      const scope = createScope();
      provide(scope, Left, LeftHand);
      provide(scope, Right, RightHand);
      scope.resolve(Left);
    }, /Left: depends on itself/],
    ['something that is no scope', () => provideValue({ resolve: () => Clock as never, has: () => true }, Name, ''), /^not a scope made by createScope$/],
  ])('refuses %s', (_name, act, message) => expect(act).toThrow(message));
});

describe('disposal', () => {
  it('runs scopes below first, youngest first, then its own in reverse, once', () => {
    const order: string[] = [];
    const scope = createScope();
    const children = [createScope(scope), createScope(scope)];
    onDispose(scope, () => order.push('vm 1'));
    onDispose(scope, () => order.push('vm 2'));
    children.forEach((child, i) => onDispose(child, () => order.push(`child ${i}`)));
    onDispose(createScope(children[0]), () => order.push('grandchild'));
    disposeScope(scope);
    disposeScope(scope);
    expect(order).toEqual(['child 1', 'grandchild', 'child 0', 'vm 2', 'vm 1']);
  });

  it('disposes what it constructed in reverse order of construction, and no value given to it', () => {
    const order: string[] = [];
    const First = token<object>('First');
    const Second = token<object>('Second');
    const Never = token<object>('Never');
    const Given = token<object>('Given');
    @component()
    class FirstPart {
      dispose(): void {
        order.push('first');
      }
    }
    @component()
    class SecondPart {
      constructor(@inject(First) readonly first: object) {}
      dispose(): void {
        order.push('second');
      }
    }
    const scope = createScope();
    provide(scope, Second, SecondPart);
    provide(scope, First, FirstPart);
    provideFactory(scope, Never, () => ({ dispose: () => order.push('never') }));
    provideValue(scope, Given, { dispose: () => order.push('given') });
    createScope(scope).resolve(Second);
    scope.resolve(Given);
    disposeScope(scope);
    expect(order).toEqual(['second', 'first']);
  });

  it('a scope that ended leaves its parent usable and is itself refused', () => {
    const scope = vm('vm0');
    const child = createScope(scope);
    disposeScope(child);
    for (const use of [() => child.resolve(Clock), () => child.has(Clock), () => createScope(child), () => onDispose(child, () => {})])
      expect(use).toThrow(new Error('the scope is disposed'));
    expect(scope.resolve(Clock).now).toBe(7);
    expect(() => disposeScope(scope)).not.toThrow();
  });

  it('runs all disposers although one throws', () => {
    const order: string[] = [];
    const scope = createScope();
    onDispose(scope, () => order.push('ran'));
    onDispose(scope, () => {
      throw new Error('broken');
    });
    expect(() => disposeScope(scope)).toThrow(new AggregateError([new Error('broken')], '1 disposers failed'));
    expect(order).toEqual(['ran']);
  });
});
