"""Legged robots in MuJoCo: half-cheetah and ant, each with goals of direction or of velocity.

The models are those that gymnasium installs; the rewards are those of the authors' code but for
what is said at each class. Many states are stepped in one call of ``mujoco.rollout``, which lets
other chunks of tasks run beside it.
"""

import importlib.util
from functools import cache
from pathlib import Path

import numpy as np

from ..errors import UserError


@cache
def _model(name, timestep):
    """Return MuJoCo's model of a robot, by one time step of the authors' simulator."""
    try:
        import mujoco
        import mujoco.rollout

        package = Path(importlib.util.find_spec("gymnasium").submodule_search_locations[0])
    except (ImportError, AttributeError):
        raise UserError(
            "MuJoCo is not installed: pip install 'tinymaml[rl]' brings it, with the robots' models"
        ) from None
    model = mujoco.MjModel.from_xml_path(str(package / f"envs/mujoco/assets/{name}.xml"))
    model.opt.timestep = timestep
    return model


class Robot:
    """A robot that is to run as its task says: what half-cheetah and ant share.

    An action of +-1 is a motor's whole torque, which is the most. A rollout has 200 steps of the
    simulator, without frame skip. The speed is that of the torso along x, over one step.
    """

    horizon = 200
    name: str
    timestep: float  # seconds
    hidden = 1  # coordinates that are not observed: x, and of the ant y
    living = 0.0  # reward of a step
    control_cost: float

    def __init__(self, tasks: np.ndarray, rollouts: int):
        self.model = _model(self.name, self.timestep)
        self.goals, self.rollouts = tasks[:, None], rollouts

    def reset(self, rngs):
        """Stand, but for noise of 0.01 in the position and 0.1 in the velocity."""
        import mujoco
        from mujoco.rollout import Rollout

        model = self.model
        self.time, self.simulator, self.data = 0, Rollout(nthread=0), mujoco.MjData(model)
        size = mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS)
        self.state = np.zeros((len(rngs), self.rollouts, size))
        noise = np.stack(
            [rng.standard_normal((self.rollouts, model.nq + model.nv)) for rng in rngs]
        )
        position, velocity = self._parts(self.state)
        position[:] = model.qpos0 + 0.01 * noise[..., : model.nq]
        velocity[:] = 0.1 * noise[..., model.nq :]
        return self.observe(), {}

    def step(self, actions):
        """Return what gymnasium's ``step`` does, for all tasks and rollouts."""
        self.time += 1
        actions = np.clip(actions, -1, 1).astype(float)
        before = self.state[..., 1]
        flat = self.state.reshape(-1, self.state.shape[-1])
        states, _ = self.simulator.rollout(
            self.model, self.data, flat, actions.reshape(len(flat), 1, -1)
        )
        self.state = states[:, -1].reshape(self.state.shape)
        speed = (self.state[..., 1] - before) / self.timestep
        reward = self.reward(speed) - self.control_cost * (actions**2).sum(-1) + self.living
        return self.observe(), reward, self.fallen(), self.time == self.horizon, {}

    def _parts(self, state):
        """Return the positions and the velocities in a state, which begins with the time."""
        n = 1 + self.model.nq
        return state[..., 1:n], state[..., n : n + self.model.nv]

    def observe(self) -> np.ndarray:
        """Return positions but for those along the ground, and velocities."""
        position, velocity = self._parts(self.state)
        return np.concatenate([position[..., self.hidden :], velocity], axis=-1)

    def reward(self, speed: np.ndarray) -> np.ndarray:
        """Return what a speed is worth in each task."""
        raise NotImplementedError

    def fallen(self) -> np.ndarray:
        """Return which rollouts have ended."""
        return np.zeros(self.state.shape[:-1], bool)

    @staticmethod
    def aim(task: float) -> str:
        """Return a task in words."""
        return f"{task:.1f} m/s"

    @classmethod
    def poses(cls, observations: np.ndarray) -> np.ndarray:
        """Return where the parts of the robot's body are, for pictures of it.

        x and y, which are not observed, are summed up from their velocities.

        Parameters
        ----------
        observations : array, shape (steps, d)
            Of one rollout.

        Returns
        -------
        array, shape (steps, parts, 7)
            Of each part, a capsule, its two ends (x, y, z) and its radius, in metres.
        """
        import mujoco

        model = _model(cls.name, cls.timestep)
        data, found = mujoco.MjData(model), []
        body = model.geom_type != mujoco.mjtGeom.mjGEOM_PLANE
        radius, half = model.geom_size[body, :2].T[..., None]  # a sphere has no length
        seen = model.nq - cls.hidden
        along = cls.timestep * observations[:, seen : seen + cls.hidden].cumsum(0, dtype=float)
        for data.qpos[:] in np.concatenate([along, observations[:, :seen]], axis=1):
            mujoco.mj_kinematics(model, data)
            arm = half * data.geom_xmat[body, 2::3]  # along the third axis of its frame
            middle = data.geom_xpos[body]
            found.append(np.concatenate([middle - arm, middle + arm, radius], axis=1))
        return np.array(found)


class HalfCheetah(Robot):
    """A planar robot with two legs and six motors; time step 0.01 s as in the authors' code.

    Their observation also has the torso's centre of mass.
    """

    name, timestep, control_cost = "half_cheetah", 0.01, 0.05
    observation_size, action_size = 17, 6


class Ant(Robot):
    """A robot with four legs and eight motors; time step 0.02 s as in the authors' code.

    A rollout ends when its height leaves [0.2, 1]. The authors also subtract 0.0005 of the squared
    contact forces and observe these, and orientation and centre of mass of the torso.
    """

    name, timestep, control_cost, living, hidden = "ant", 0.02, 0.005, 0.05, 2
    observation_size, action_size = 27, 8

    def fallen(self):
        height = self.state[..., 3]
        return (height < 0.2) | (height > 1.0)


class _Direction:
    """Forward or backward: tasks are +1 or -1, and the reward is the speed in that direction."""

    @staticmethod
    def sample_tasks(rng, n_tasks):
        return rng.choice([-1.0, 1.0], n_tasks)

    @staticmethod
    def aim(task):
        return "forward" if task > 0 else "backward"

    def reward(self, speed):
        return self.goals * speed


class _Informed:
    """The task is seen beside the rest, for the oracle."""

    def observe(self):
        seen = super().observe()
        goals = np.broadcast_to(self.goals[..., None], (*seen.shape[:-1], 1))
        return np.concatenate([seen, goals], axis=-1)


class HalfCheetahDirection(_Direction, HalfCheetah):
    """Half-cheetah forward or backward."""


class HalfCheetahVelocity(HalfCheetah):
    """Half-cheetah at a goal velocity g, drawn from [0, 2] m/s: -abs(v - g)."""

    @staticmethod
    def sample_tasks(rng, n_tasks):
        return rng.uniform(0, 2, n_tasks)

    def reward(self, speed):
        return -abs(speed - self.goals)


class AntDirection(_Direction, Ant):
    """Ant forward or backward."""


class AntVelocity(Ant):
    """Ant at a goal velocity g, drawn from [0, 3] m/s: 1 - abs(v - g)."""

    @staticmethod
    def sample_tasks(rng, n_tasks):
        return rng.uniform(0, 3, n_tasks)

    def reward(self, speed):
        return 1 - abs(speed - self.goals)


def informed(environment: type) -> type:
    """Return a robot's environment in which the task is observed too."""
    size = environment.observation_size + 1
    return type(
        f"Informed{environment.__name__}", (_Informed, environment), {"observation_size": size}
    )
